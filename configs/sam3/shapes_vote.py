_base_ = '../sclip/shapes.py'
model = dict(
    postprocessor=dict(
        type='SAM3Vote',
        regions=dict(
            type='SAM3Regions',
            sam=dict(type='SAM3Adapter', pretrained='facebook/sam3'),
        ),
    ),
)

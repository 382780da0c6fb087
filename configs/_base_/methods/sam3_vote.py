"""SCLIP, outvoted where SAM 3 finds what a word names: supervised."""

attention = 'csa'
postprocessor = dict(
    type='SAM3Vote',
    regions=dict(type='SAM3Regions', sam=dict(type='SAM3Adapter', pretrained='facebook/sam3')),
)

"""The shipped SigLIP on data/polygons; with another encoder: --encoder NAME."""

_base_ = 'mmseg_siglip::sclip/shapes.py'
custom_imports = dict(imports=['mmseg_siglip', 'polygon_dataset'])
model = dict(vocabulary='shapes')  # or the file of your classes
test_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='PolygonDataset',
        data_root='data/polygons',
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='DrawPolygons'),
            dict(type='PackSegInputs'),
        ],
    ),
)

_base_ = [
    '../_base_/datasets/shapes.py',
    '../_base_/encoders/tiny_siglip_shapes.py',
    '../_base_/models/sclip.py',
    '../_base_/default_runtime.py',
]
model = dict(
    backbone=_base_.encoder,
    vocabulary='shapes',
    test_cfg=dict(crop_size=(48, 48), stride=(24, 24)),
)

_base_ = [
    '../_base_/datasets/shapes.py',
    '../_base_/models/sclip_siglip2_b16.py',
    '../_base_/default_runtime.py',
]
model = dict(
    backbone=dict(pretrained='tiny_siglip_shapes'),
    vocabulary='shapes',
    test_cfg=dict(crop_size=(48, 48), stride=(24, 24)),
)

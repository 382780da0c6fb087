_base_ = [
    '../_base_/datasets/vdd.py',
    '../_base_/encoders/siglip2_b16_224.py',
    '../_base_/models/sclip.py',
    '../_base_/default_runtime.py',
]
model = dict(backbone=_base_.encoder, vocabulary='vdd')

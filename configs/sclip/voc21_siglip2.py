_base_ = [
    '../_base_/datasets/voc21.py',
    '../_base_/encoders/siglip2_b16_224.py',
    '../_base_/models/sclip.py',
    '../_base_/default_runtime.py',
]
model = dict(backbone=_base_.encoder, vocabulary='voc21', prob_thd=0.1, area_thd=0.1)

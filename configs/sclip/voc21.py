_base_ = [
    '../_base_/datasets/voc21.py',
    '../_base_/encoders/clip_b16_224.py',
    '../_base_/models/sclip_clip.py',
    '../_base_/default_runtime.py',
]
model = dict(
    backbone=_base_.encoder,
    vocabulary='voc21_sclip',
    logit_scale=65,
    prob_thd=0.1,
    area_thd=0.1,
    background_index=0,
)

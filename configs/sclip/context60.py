_base_ = [
    '../_base_/datasets/context60.py',
    '../_base_/encoders/clip_b16_224.py',
    '../_base_/models/sclip_clip.py',
    '../_base_/default_runtime.py',
]
model = dict(
    backbone=_base_.encoder,
    vocabulary='context60_sclip',
    logit_scale=50,
    prob_thd=0.1,
    background_index=0,
)

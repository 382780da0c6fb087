_base_ = [
    '../_base_/datasets/own_depth.py',
    '../_base_/encoders/siglip2_b16_512.py',
    '../_base_/models/dpt.py',
    '../_base_/schedules/dpt_20k.py',
    '../_base_/default_runtime.py',
]
farthest = dict(max_depth=_base_.max_depth)
model = dict(backbone=_base_.encoder, decode_head=dict(**farthest, loss_decode=farthest))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, begin=0, end=200, by_epoch=False),
    dict(type='PolyLR', power=0.9, begin=200, end=4000, by_epoch=False),
]
train_cfg = dict(max_iters=4000, val_interval=1000)
default_hooks = dict(checkpoint=dict(interval=1000), visualization=dict(draw=False))

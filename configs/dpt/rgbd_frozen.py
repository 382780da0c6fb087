_base_ = [
    '../_base_/datasets/rgbd_7scenes.py',
    '../_base_/encoders/siglip2_b16_512.py',
    '../_base_/models/dpt.py',
    '../_base_/schedules/dpt_20k.py',
    '../_base_/default_runtime.py',
]
model = dict(backbone=_base_.encoder)
optim_wrapper = dict(optimizer=dict(lr=1e-4))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, begin=0, end=30, by_epoch=False),
    dict(type='PolyLR', power=0.9, begin=30, end=200, by_epoch=False),
]
train_cfg = dict(max_iters=200, val_interval=200)
default_hooks = dict(checkpoint=dict(interval=100), visualization=dict(draw=False))

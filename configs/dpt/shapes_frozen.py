_base_ = [
    '../_base_/datasets/shapes_depth.py',
    '../_base_/encoders/tiny_siglip_shapes.py',
    '../_base_/models/dpt.py',
    '../_base_/schedules/dpt_20k.py',
    '../_base_/default_runtime.py',
]
model = dict(
    backbone=_base_.encoder,
    decode_head=dict(max_depth=16.0, loss_decode=dict(max_depth=16.0)),
)
optim_wrapper = dict(optimizer=dict(lr=1e-3))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, begin=0, end=50, by_epoch=False),
    dict(type='PolyLR', power=0.9, begin=50, end=600, by_epoch=False),
]
train_cfg = dict(max_iters=600, val_interval=600)
default_hooks = dict(checkpoint=dict(interval=100), visualization=dict(draw=False))

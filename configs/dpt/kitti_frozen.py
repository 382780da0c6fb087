_base_ = [
    '../_base_/datasets/kitti_depth.py',
    '../_base_/encoders/siglip2_b16_512.py',
    '../_base_/models/dpt.py',
    '../_base_/schedules/dpt_20k.py',
    '../_base_/default_runtime.py',
]
model = dict(
    backbone=_base_.encoder, decode_head=dict(max_depth=80.0, loss_decode=dict(max_depth=80.0))
)

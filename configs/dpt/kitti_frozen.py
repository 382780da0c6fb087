_base_ = [
    '../_base_/datasets/kitti_depth.py',
    '../_base_/models/dpt_siglip2_b16.py',
    '../_base_/schedules/dpt_20k.py',
    '../_base_/default_runtime.py',
]
model = dict(decode_head=dict(max_depth=80.0, loss_decode=dict(max_depth=80.0)))

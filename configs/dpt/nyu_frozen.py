_base_ = [
    '../_base_/datasets/nyu_depth.py',
    '../_base_/models/dpt_siglip2_b16.py',
    '../_base_/schedules/dpt_20k.py',
    '../_base_/default_runtime.py',
]

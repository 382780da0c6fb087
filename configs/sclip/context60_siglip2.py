_base_ = [
    '../_base_/datasets/context60.py',
    '../_base_/models/sclip_siglip2_b16.py',
    '../_base_/default_runtime.py',
]
model = dict(vocabulary='context60', prob_thd=0.1)

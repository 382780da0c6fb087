_base_ = [
    '../_base_/datasets/ade20k.py',
    '../_base_/models/sclip_clip_b16.py',
    '../_base_/default_runtime.py',
]
model = dict(vocabulary='ade20k_sclip')

_base_ = [
    '../_base_/datasets/cityscapes.py',
    '../_base_/models/sclip_clip_b16.py',
    '../_base_/default_runtime.py',
]
model = dict(vocabulary='cityscapes_sclip')

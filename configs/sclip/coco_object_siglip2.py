_base_ = [
    '../_base_/datasets/coco_object.py',
    '../_base_/models/sclip_siglip2_b16.py',
    '../_base_/default_runtime.py',
]
model = dict(vocabulary='coco_object', prob_thd=0.1)

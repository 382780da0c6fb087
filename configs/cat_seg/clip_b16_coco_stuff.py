_base_ = [
    '../_base_/datasets/coco_stuff_train.py',
    '../_base_/models/cat_seg_clip_b16.py',
    '../_base_/schedules/cat_seg_80k.py',
    '../_base_/default_runtime.py',
]

_base_ = [
    '../_base_/datasets/coco_stuff_train.py',
    '../_base_/encoders/clip_b16_384.py',
    '../_base_/models/cat_seg.py',
    '../_base_/schedules/cat_seg_80k.py',
    '../_base_/default_runtime.py',
]
model = dict(backbone=_base_.encoder, encoder_size=_base_.encoder_size)

_base_ = [
    '../_base_/datasets/hugging_face.py',
    '../_base_/encoders/clip_b16_224.py',
    '../_base_/models/sclip_clip.py',
    '../_base_/default_runtime.py',
]
model = dict(backbone=_base_.encoder, vocabulary=_base_.classes)

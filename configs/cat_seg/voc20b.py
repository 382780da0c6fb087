_base_ = [
    '../_base_/datasets/voc20b.py',
    '../_base_/encoders/clip_b16_384.py',
    '../_base_/models/cat_seg.py',
    '../_base_/default_runtime.py',
]
_base_.test_dataloader.dataset.pipeline[1].scale = (2560, 640)
model = dict(backbone=_base_.encoder, encoder_size=_base_.encoder_size)
model.update(test_vocabulary='voc20b_catseg', synonyms='max')

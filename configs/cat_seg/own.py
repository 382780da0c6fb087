_base_ = [
    '../_base_/datasets/own.py',
    '../_base_/encoders/clip_b16_384.py',
    '../_base_/models/cat_seg.py',
    '../_base_/schedules/cat_seg_80k.py',
    '../_base_/default_runtime.py',
]
_base_.test_dataloader.dataset.pipeline[1].scale = (2560, 640)
train_dataloader = dict(
    batch_size=4,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='LoadAnnotations'),
            dict(
                type='RandomChoiceResize',
                scales=[384],
                resize_type='ResizeShortestEdge',
                max_size=1333,
            ),
            dict(type='RandomCrop', crop_size=(384, 384), cat_max_ratio=1.0),
            dict(type='PhotoMetricDistortion'),
            dict(type='RandomFlip', prob=0.5),
            dict(type='PackSegInputs'),
        ],
        **_base_.train_set,
    ),
)
val_dataloader = _base_.test_dataloader
val_evaluator = _base_.test_evaluator
val_cfg = dict(type='ValLoop')
model = dict(backbone=_base_.encoder, encoder_size=_base_.encoder_size, vocabulary=_base_.classes)
param_scheduler = [
    dict(type='CosineAnnealingLR', begin=0, end=10000, by_epoch=False, eta_min=0.0),
]
train_cfg = dict(max_iters=10000, val_interval=1000)
default_hooks = dict(checkpoint=dict(interval=1000))

"""COCO-Stuff 164k: train2017 as CAT-Seg trains on it, val2017 on the way."""

_base_ = './coco_stuff.py'
_base_.test_dataloader.dataset.pipeline[1].scale = (2560, 640)
train_dataloader = dict(
    batch_size=4,
    num_workers=8,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        type='COCOStuffDataset',
        data_root='data/coco_stuff164k',
        data_prefix=dict(img_path='images/train2017', seg_map_path='annotations/train2017'),
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
    ),
)
val_dataloader = _base_.test_dataloader
val_evaluator = _base_.test_evaluator
val_cfg = dict(type='ValLoop')

"""RefCOCO, split by UNC, in the layout of the refer toolbox."""

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadReferringMasks'),
    dict(type='ResizeReferring', scale=(1024, 1024), keep_ratio=False),
    dict(type='PackReferringInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadReferringMasks'),
    dict(type='Resize', scale=(1024, 1024), keep_ratio=False),
    dict(type='PackReferringInputs'),
]
train_dataloader = dict(
    batch_size=4,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        type='RefCOCODataset',
        data_root='data/refer',
        ann_file='refcoco/instances.json',
        refs_file='refs(unc).p',
        split='train',
        data_prefix=dict(img_path='images/mscoco/images/train2014'),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='RefCOCODataset',
        data_root='data/refer',
        ann_file='refcoco/instances.json',
        refs_file='refs(unc).p',
        split='val',
        data_prefix=dict(img_path='images/mscoco/images/train2014'),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = test_evaluator = dict(type='RefSegMetric')
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

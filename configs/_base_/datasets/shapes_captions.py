"""ShapesWorld windows with captions to train on, and val scenes to segment."""

train_dataloader = dict(
    batch_size=64,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    collate_fn=dict(type='default_collate'),
    dataset=dict(type='ShapesCaptionDataset', image_size=64, num_scenes=1024, windows=1024),
)
val_dataloader = dict(
    batch_size=25,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='ShapesWorldDataset',
        split='val',
        num_scenes=100,
        pipeline=[dict(type='PackSegInputs')],
    ),
)
val_evaluator = [
    dict(type='IoUMetric', iou_metrics=['mIoU']),
    dict(type='ZeroShotAccuracy'),
]
val_cfg = dict(type='ValLoop')

"""ShapesWorld scenes with a mask for each object and each kind of ground, drawn on demand."""

train_dataloader = dict(
    batch_size=4,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        type='ShapesWorldDataset',
        split='train',
        num_scenes=50000,
        pipeline=[dict(type='LoadShapesRegions', count=6), dict(type='PackReferringInputs')],
    ),
)
val_dataloader = dict(
    batch_size=8,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='ShapesWorldDataset',
        split='val',
        num_scenes=50,
        pipeline=[dict(type='LoadShapesRegions'), dict(type='PackReferringInputs')],
    ),
)
val_evaluator = dict(type='RefSegMetric')
val_cfg = dict(type='ValLoop')

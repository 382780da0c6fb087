"""ShapesWorld with its exact depth, 2 to 12 metres: scenes drawn on demand."""

train_dataloader = dict(
    batch_size=8,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        type='ShapesWorldDataset',
        split='train',
        num_scenes=20000,
        pipeline=[
            dict(type='LoadShapesDepth'),
            dict(type='RandomFlip', prob=0.5),
            dict(type='PackSegInputs'),
        ],
    ),
)
val_dataloader = test_dataloader = dict(
    batch_size=8,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='ShapesWorldDataset',
        split='test',
        num_scenes=200,
        test_mode=True,
        pipeline=[dict(type='LoadShapesDepth'), dict(type='PackSegInputs')],
    ),
)
val_evaluator = test_evaluator = dict(type='DepthMetric', max_depth_eval=16.0)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

"""ShapesWorld scenes with phrases that fit one object each, drawn on demand."""

train_dataloader = dict(
    batch_size=8,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        type='ShapesReferringDataset',
        split='train',
        num_scenes=20000,
        phrases_per_image=4,
        pipeline=[
            dict(type='LoadReferringMasks'),
            dict(type='RandomReferringFlip', prob=0.5),
            dict(type='PackReferringInputs'),
        ],
    ),
)
val_dataloader = dict(
    batch_size=8,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='ShapesReferringDataset',
        split='val',
        num_scenes=200,
        test_mode=True,
        pipeline=[dict(type='LoadReferringMasks'), dict(type='PackReferringInputs')],
    ),
)
test_dataloader = dict(
    batch_size=8,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='ShapesReferringDataset',
        split='test',
        num_scenes=200,
        test_mode=True,
        pipeline=[dict(type='LoadReferringMasks'), dict(type='PackReferringInputs')],
    ),
)
val_evaluator = test_evaluator = dict(type='RefSegMetric')
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

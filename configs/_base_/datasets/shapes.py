"""ShapesWorld test scenes, 8 shapes and 5 kinds of ground, drawn on demand."""

test_dataloader = dict(
    batch_size=4,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='ShapesWorldDataset',
        num_scenes=200,
        pipeline=[dict(type='PackSegInputs')],
    ),
)
test_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
test_cfg = dict(type='TestLoop')
test_pipeline = [dict(type='LoadImageFromFile'), dict(type='PackSegInputs')]  # of other pictures

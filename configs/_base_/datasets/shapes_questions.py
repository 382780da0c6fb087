"""ShapesWorld questions about number, colour and distance, answers equally frequent."""

train_dataloader = dict(
    batch_size=64,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    collate_fn=dict(type='pseudo_collate'),
    dataset=dict(
        type='ShapesQuestionDataset',
        split='train',
        num_questions=1000000,
        turns=5,
        num_scenes=16384,
    ),
)
val_dataloader = dict(
    batch_size=96,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='pseudo_collate'),
    dataset=dict(type='ShapesQuestionDataset', split='val', num_questions=960, num_scenes=2048),
)
test_dataloader = dict(
    batch_size=96,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='pseudo_collate'),
    dataset=dict(type='ShapesQuestionDataset', split='test', num_questions=1920, num_scenes=4096),
)
val_evaluator = test_evaluator = dict(type='AnswerAccuracy')
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

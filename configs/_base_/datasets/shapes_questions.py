"""ShapesWorld questions about number, colour and distance, answers equally frequent."""

kinds = ('count', 'colour', 'nearest')
train_dataloader = dict(
    batch_size=32,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    collate_fn=dict(type='pseudo_collate'),
    dataset=dict(
        type='ShapesQuestionDataset',
        split='train',
        num_questions=1000000,
        turns=5,
        num_scenes=6144,
        kinds=kinds,
    ),
)
val_dataloader = dict(
    batch_size=96,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='pseudo_collate'),
    dataset=dict(
        type='ShapesQuestionDataset',
        split='val',
        num_questions=576,
        num_scenes=1024,
        kinds=kinds,
    ),
)
test_dataloader = dict(
    batch_size=96,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='pseudo_collate'),
    dataset=dict(
        type='ShapesQuestionDataset',
        split='test',
        num_questions=1440,
        num_scenes=2048,
        kinds=kinds,
    ),
)
val_evaluator = test_evaluator = dict(type='AnswerAccuracy')
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

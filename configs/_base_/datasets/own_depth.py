"""Your own images and depth maps, as docs/own_data.md has them: the next lines are yours."""

data_root = 'data/own'
depth_scale, invalid_values = 1000.0, []  # units of a depth map a metre; values besides 0 of none
max_depth = 10.0  # metres
train_part = dict(part='train', held_out=0.2)
val_part = dict(part='val', held_out=0.2)
scale = (640, 480)
dataset = dict(
    type='RGBDDataset',
    data_root=data_root,
    data_prefix=dict(img_path='images', depth_map_path='depth'),
    img_suffix='.jpg',
    depth_map_suffix='.png',
    depth_scale=depth_scale,
    invalid_values=invalid_values,
    max_depth=max_depth,
)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadDepthAnnotation'),
    dict(type='Resize', scale=scale),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=scale),
    dict(type='LoadDepthAnnotation', allow_empty=True),  # after resizing: compared at its own size
    dict(type='PackSegInputs'),
]
train_dataloader = dict(
    batch_size=8,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset={**dataset, **train_part, 'pipeline': train_pipeline},
)
val_dataloader = test_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset={**dataset, **val_part, 'test_mode': True, 'pipeline': test_pipeline},
)
val_evaluator = test_evaluator = dict(type='DepthMetric', max_depth_eval=max_depth)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

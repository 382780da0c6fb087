"""One 7-Scenes sequence of 63 Kinect frames: the first 48 train, the last 15 test."""

scale = (640, 480)
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
dataset = dict(
    type='RGBDDataset',
    data_root='{{$MMSEG_SIGLIP_DATA:data}}/rgbd-7scenes',
    img_suffix='.color.jpg',
    depth_map_suffix='.depth.png',
    depth_scale=1000.0,
    invalid_values=[65535],
    max_depth=10.0,
)
train_dataloader = dict(
    batch_size=8,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        **dataset,
        indices=list(range(48)),
        pipeline=train_pipeline,
    ),
)
val_dataloader = test_dataloader = dict(
    batch_size=1,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        **dataset,
        indices=list(range(48, 63)),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
val_evaluator = test_evaluator = dict(type='DepthMetric', max_depth_eval=10.0)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

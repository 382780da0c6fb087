"""KITTI depth, Eigen's split, cropped to the lowest 352 rows and central 1216 columns."""

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadDepthAnnotation'),
    dict(type='KBCrop'),
    dict(type='RandomFlip', prob=0.5),
    dict(type='RandomCrop', crop_size=(352, 704)),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadDepthAnnotation', allow_empty=True),
    dict(type='KBCrop'),
    dict(type='PackSegInputs'),
]
train_dataloader = dict(
    batch_size=8,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        type='KITTIDepthDataset',
        data_root='data/kitti',
        ann_file='kitti_eigen_train.txt',
        pipeline=train_pipeline,
    ),
)
val_dataloader = test_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='KITTIDepthDataset',
        data_root='data/kitti',
        ann_file='kitti_eigen_test.txt',
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
val_evaluator = test_evaluator = dict(
    type='DepthMetric', max_depth_eval=80.0, crop_type='garg', depth_scale_factor=256.0
)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

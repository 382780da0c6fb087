_base_ = [
    '../_base_/datasets/shapes.py',
    '../_base_/encoders/tiny_siglip_shapes.py',
    '../_base_/models/cat_seg_tiny.py',
    '../_base_/schedules/cat_seg_tiny.py',
    '../_base_/default_runtime.py',
]
train_dataloader = dict(
    batch_size=8,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        type='ShapesWorldDataset',
        task='pairs',
        split='train',
        num_scenes=20000,
        pipeline=[
            dict(type='SelectClasses', source='shapes_pairs', target='shapes_pairs_trained'),
            dict(type='RandomCrop', crop_size=(64, 64)),
            dict(type='RandomFlip', prob=0.5),
            dict(type='PackSegInputs'),
        ],
    ),
)
test_dataloader = dict(dataset=dict(task='pairs'))
test_evaluator = dict(
    class_groups=dict(seen='shapes_pairs_trained', withheld='shapes_pairs_withheld')
)
model = dict(
    backbone=_base_.encoder, vocabulary='shapes_pairs_trained', test_vocabulary='shapes_pairs'
)
default_hooks = dict(checkpoint=dict(interval=250, max_keep_ckpts=1))

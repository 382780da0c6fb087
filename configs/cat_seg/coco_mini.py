_base_ = [
    '../_base_/datasets/coco_mini.py',
    '../_base_/encoders/tiny_siglip_shapes.py',
    '../_base_/models/cat_seg_tiny.py',
    '../_base_/schedules/cat_seg_tiny.py',
    '../_base_/default_runtime.py',
]
small = dict(type='Resize', scale=(2048, 128), keep_ratio=True)
loading = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'), small]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    small,
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs'),
]
photographs = dict(
    type='FolderDataset',
    data_root='{{$MMSEG_SIGLIP_DATA:data}}/coco-mini',
    data_prefix=dict(img_path='images', seg_map_path='masks'),
    vocabulary='coco_panoptic',
    label_values={{_base_.category_ids}},
    void_values=[0],
)
train_dataloader = dict(
    batch_size=2,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        indices=list(range(80)),
        pipeline=[
            *loading,
            dict(type='RandomCrop', crop_size=(64, 64)),
            dict(type='PhotoMetricDistortion'),
            dict(type='RandomFlip', prob=0.5),
            dict(type='PackSegInputs'),
        ],
        **photographs,
    ),
)
test_dataloader = dict(dataset=dict(indices=list(range(80, 100)), pipeline=test_pipeline))
model = dict(
    backbone=_base_.encoder,
    vocabulary='coco_panoptic',
    decode_head=dict(pad_len=0),
    test_cfg=dict(mode='whole', _delete_=True),
)
param_scheduler = [
    dict(type='CosineAnnealingLR', begin=0, end=200, by_epoch=False, eta_min=0.0),
]
train_cfg = dict(max_iters=200, val_interval=200)
default_hooks = dict(checkpoint=dict(interval=100), logger=dict(interval=10))

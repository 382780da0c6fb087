_base_ = ['../_base_/datasets/shapes.py', '../_base_/default_runtime.py']
pairs = dict(type='ShapesWorldDataset', task='pairs')
train_dataloader = dict(
    batch_size=8,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        **pairs,
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
groups = dict(seen='shapes_pairs_trained', withheld='shapes_pairs_withheld')
test_evaluator = dict(class_groups=groups)
model = dict(
    type='CATSegSegmentor',
    backbone=dict(type='SigLIPBackbone', pretrained='tiny_siglip_shapes'),
    decode_head=dict(
        type='CATSegHead',
        channels=64,
        num_heads=4,
        window=8,
        test_pooling=2,
        guidance_channels=32,
        text_channels=32,
        pad_len=64,
        decoder_widths=(32, 16),
        guidance_widths=(64, 32),
        guidance_proj_widths=(16, 8),
        loss_decode=dict(type='DenseBCELoss', ignore_as_negative=False),
    ),
    vocabulary='shapes_pairs_trained',
    test_vocabulary='shapes_pairs',
    templates='plain',
    data_preprocessor=dict(
        type='ImageListPreProcessor', bgr_to_rgb=True, size=(64, 64), pad_val=0, seg_pad_val=255
    ),
    test_cfg=dict(mode='slide', crop_size=(64, 64), stride=(32, 32), window_batch=16),
)
tta_model = dict(type='OpenVocabularyTTAModel')
optim_wrapper = dict(
    type='AmpOptimWrapper',
    dtype='bfloat16',
    optimizer=dict(type='AdamW', lr=1e-3, weight_decay=1e-4),
    clip_grad=dict(max_norm=0.1),
    paramwise_cfg=dict(norm_decay_mult=0.0, custom_keys={'backbone': dict(lr_mult=0.05)}),
)
param_scheduler = [
    dict(type='CosineAnnealingLR', begin=0, end=800, by_epoch=False, eta_min=0.0),
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=800, val_interval=800)
default_hooks = dict(checkpoint=dict(interval=400, max_keep_ckpts=1))

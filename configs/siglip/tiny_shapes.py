_base_ = ['../_base_/datasets/shapes_captions.py', '../_base_/default_runtime.py']
train_dataloader = dict(
    batch_size=192,
    dataset=dict(closest=0.8, ground=(0.0, 0.04)),
)
model = dict(
    type='SigLIPPretrainer',
    backbone=dict(type='SigLIPBackbone', config='tiny_siglip_shapes'),
    vocabulary='shapes',
    train_sizes=(32, 64),
    max_tokens=24,
    logit_bias=-2.0,  # about one text in six is true of an image, not one in a batch
)
optim_wrapper = dict(
    type='AmpOptimWrapper',
    dtype='bfloat16',
    optimizer=dict(type='AdamW', lr=1.2e-3, betas=(0.9, 0.99), weight_decay=0.05, fused=True),
    paramwise_cfg=dict(
        norm_decay_mult=0.0,
        bias_decay_mult=0.0,
        custom_keys={
            'logit_scale': dict(lr_mult=10.0, decay_mult=0.0),
            'logit_bias': dict(lr_mult=10.0, decay_mult=0.0),
        },
    ),
    clip_grad=dict(max_norm=1.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, begin=0, end=100, by_epoch=False),
    dict(type='CosineAnnealingLR', begin=100, end=5000, by_epoch=False, eta_min=1e-6),
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=5000, val_interval=1000)
default_hooks = dict(
    logger=dict(interval=50),
    checkpoint=dict(interval=500, max_keep_ckpts=1),
    visualization=dict(draw=False),
)

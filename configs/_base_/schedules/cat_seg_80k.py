"""CAT-Seg's schedule: 80k iterations of 4 images, AdamW, the encoder a hundred times slower."""

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=2e-4, weight_decay=1e-4),
    clip_grad=dict(max_norm=0.01),
    paramwise_cfg=dict(norm_decay_mult=0.0, custom_keys={'backbone': dict(lr_mult=0.01)}),
)
param_scheduler = [
    dict(type='CosineAnnealingLR', begin=0, end=80000, by_epoch=False, eta_min=0.0),
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=80000, val_interval=5000)

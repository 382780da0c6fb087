"""RSRefSeg on RRSIS-D: 200 epochs of 12,181 phrases in batches of 32, over 8 GPUs."""

optim_wrapper = dict(
    type='AmpOptimWrapper',
    dtype='bfloat16',
    optimizer=dict(type='AdamW', lr=1e-4, weight_decay=0.05),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, begin=0, end=1900, by_epoch=False),
    dict(
        type='CosineAnnealingLR', begin=1900, end=76000, T_max=76000, by_epoch=False, eta_min=1e-7
    ),
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=76000, val_interval=3800)

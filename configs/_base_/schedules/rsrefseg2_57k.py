"""RSRefSeg 2 on RRSIS-D: 300 epochs of 12,181 phrases in batches of 64, over 8 GPUs.

As published, the rate stands still from epoch 5 to 30, and its cosine would end after epoch 420.
"""

optim_wrapper = dict(
    type='AmpOptimWrapper',
    dtype='bfloat16',
    optimizer=dict(type='AdamW', lr=1e-4, weight_decay=0.05),
    clip_grad=dict(max_norm=3.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, begin=0, end=950, by_epoch=False),
    dict(
        type='CosineAnnealingLR', begin=5700, end=57000, T_max=74100, by_epoch=False, eta_min=1e-6
    ),
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=57000, val_interval=1900)

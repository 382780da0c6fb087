_base_ = './tiny_shapes.py'
load_from = 'work_dirs/tiny_shapes/iter_2800.pth'
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, begin=0, end=100, by_epoch=False),
    dict(type='CosineAnnealingLR', begin=100, end=3600, by_epoch=False, eta_min=1e-6),
]
train_cfg = dict(max_iters=3600, val_interval=1200)

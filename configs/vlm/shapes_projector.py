_base_ = './shapes.py'
load_from = 'work_dirs/shapes/iter_800.pth'
model = dict(train=('projector', 'fusion'))
optim_wrapper = dict(optimizer=dict(lr=1e-3))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, begin=0, end=20, by_epoch=False),
    dict(type='CosineAnnealingLR', begin=20, end=300, by_epoch=False, eta_min=1e-5),
]
train_cfg = dict(max_iters=300, val_interval=300)

_base_ = './tiny_shapes.py'
load_from = 'work_dirs/tiny_shapes/iter_5000.pth'
# Nearer to the objects, and ground that hardly shows counts as absent: an object's own patches
# learn not to be ground.
train_dataloader = dict(dataset=dict(closest=0.5, ground=(0.1, 0.3)))
optim_wrapper = dict(optimizer=dict(lr=8e-4))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, begin=0, end=100, by_epoch=False),
    dict(type='CosineAnnealingLR', begin=100, end=4000, by_epoch=False, eta_min=1e-6),
]
train_cfg = dict(max_iters=4000)

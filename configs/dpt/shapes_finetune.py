_base_ = './shapes_frozen.py'
model = dict(freeze_backbone=False)
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=0.1))))
load_from = 'work_dirs/shapes_frozen/iter_600.pth'

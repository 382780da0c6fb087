_base_ = './own_frozen.py'
model = dict(freeze_backbone=False)
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=0.1))))
load_from = 'work_dirs/own_frozen/iter_4000.pth'

_base_ = './rgbd_frozen_tiny.py'
model = dict(freeze_backbone=False)
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=0.1))))
load_from = 'work_dirs/rgbd_frozen_tiny/iter_200.pth'

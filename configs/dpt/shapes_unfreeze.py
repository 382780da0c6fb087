_base_ = './shapes_frozen.py'
model = dict(freeze_backbone=False)
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=0.1))))
custom_hooks = [dict(type='UnfreezeBackboneHook', step=300)]

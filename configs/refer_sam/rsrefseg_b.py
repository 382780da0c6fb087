_base_ = [
    '../_base_/datasets/refer_rrsis_d.py',
    '../_base_/encoders/siglip_so400m14_384.py',
    '../_base_/models/rsrefseg.py',
    '../_base_/schedules/rsrefseg_76k.py',
    '../_base_/default_runtime.py',
]
train_dataloader = dict(dataset=dict(apart=True))
val_dataloader = dict(dataset=dict(apart=True))
test_dataloader = dict(dataset=dict(apart=True))
val_evaluator = dict(strict=True)
test_evaluator = dict(strict=True)
model = dict(backbone=_base_.encoder)

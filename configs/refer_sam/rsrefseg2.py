_base_ = [
    '../_base_/datasets/refer_rrsis_d.py',
    '../_base_/pipelines/refer_keep_ratio.py',
    '../_base_/encoders/siglip2_so400m16_512.py',
    '../_base_/models/rsrefseg2.py',
    '../_base_/schedules/rsrefseg2_57k.py',
    '../_base_/default_runtime.py',
]
train_dataloader = dict(
    batch_size=8, dataset=dict(apart=True, pipeline={{_base_.keep_ratio_plain}})
)
apart = dict(apart=True, pipeline={{_base_.keep_ratio_test}})
val_dataloader = dict(batch_size=8, dataset=apart)
test_dataloader = dict(batch_size=8, dataset=apart)
val_evaluator = dict(strict=True)
test_evaluator = dict(strict=True)
model = dict(backbone=_base_.encoder)

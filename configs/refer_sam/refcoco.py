_base_ = [
    '../_base_/datasets/refer_refcoco.py',
    '../_base_/pipelines/refer_keep_ratio.py',
    '../_base_/encoders/siglip2_b16_384.py',
    '../_base_/models/refer_sam.py',
    '../_base_/schedules/rsrefseg_76k.py',
    '../_base_/default_runtime.py',
]
train_dataloader = dict(dataset=dict(pipeline={{_base_.keep_ratio_train}}))
val_dataloader = dict(dataset=dict(pipeline={{_base_.keep_ratio_test}}))
test_dataloader = dict(dataset=dict(pipeline={{_base_.keep_ratio_test}}))
model = dict(backbone=_base_.encoder)

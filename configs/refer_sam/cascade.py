"""RSRefSeg 2's encoders, losses and schedule with a prompter of our own, `CascadedPrompter`."""

_base_ = [
    '../_base_/datasets/refer_rrsis_d.py',
    '../_base_/pipelines/refer_keep_ratio.py',
    '../_base_/encoders/siglip2_so400m16_512.py',
    '../_base_/models/refer_sam.py',
    '../_base_/schedules/rsrefseg2_57k.py',
    '../_base_/default_runtime.py',
]
train_dataloader = dict(batch_size=8, dataset=dict(pipeline={{_base_.keep_ratio_train}}))
val_dataloader = dict(dataset=dict(pipeline={{_base_.keep_ratio_test}}))
test_dataloader = dict(dataset=dict(pipeline={{_base_.keep_ratio_test}}))
model = dict(
    backbone=_base_.encoder,
    sam=dict(checkpoint='facebook/sam2.1-hiera-large'),
    decode_head=dict(prompt_mode='cascade', dense='matched', iou_loss_weight=0.0),
    encoder=dict(similarity='tower'),
)

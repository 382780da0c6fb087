_base_ = [
    '../_base_/datasets/refer_refcoco.py',
    '../_base_/models/refer_sam.py',
    '../_base_/schedules/rsrefseg_76k.py',
    '../_base_/default_runtime.py',
]
resize = dict(scale=(1024, 1024), keep_ratio=True)
load = [dict(type='LoadImageFromFile'), dict(type='LoadReferringMasks')]
pack = [dict(type='PackReferringInputs')]
flip = dict(type='RandomReferringFlip', prob=0.5)
train_pipeline = [*load, dict(type='ResizeReferring', **resize), flip, *pack]
test_pipeline = [*load, dict(type='Resize', **resize), *pack]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))

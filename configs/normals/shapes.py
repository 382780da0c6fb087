_base_ = '../dpt/shapes_frozen.py'
load, pack = (
    [dict(type='LoadShapesDepth'), dict(type='NormalsFromDepth')],
    dict(type='PackSegInputs'),
)
train_dataloader = dict(
    dataset=dict(pipeline=[*load, dict(type='RandomFlip', prob=0.5), pack]),
)
val_dataloader = test_dataloader = dict(dataset=dict(pipeline=[*load, pack]))
model = dict(normal_head=dict(loss_decode=dict(type='NormalAngleLoss')))
val_evaluator = test_evaluator = [
    dict(type='DepthMetric', max_depth_eval=16.0),
    dict(type='NormalMetric'),
]

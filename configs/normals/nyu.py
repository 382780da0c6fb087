_base_ = '../dpt/nyu_frozen.py'
# The colour camera of NYU Depth v2, as its toolbox has it, but for pixels counted from 0.
normals = dict(type='NormalsFromDepth', intrinsics=(518.8579, 519.4696, 324.5824, 252.7362))
train_pipeline = [*_base_.train_pipeline[:2], normals, *_base_.train_pipeline[2:]]
test_pipeline = [*_base_.test_pipeline[:2], normals, *_base_.test_pipeline[2:]]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
model = dict(normal_head=dict(loss_decode=dict(type='NormalAngleLoss')))
val_evaluator = test_evaluator = [
    dict(type='DepthMetric', max_depth_eval=10.0, crop_type='nyu'),
    dict(type='NormalMetric'),
]

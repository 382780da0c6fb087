_base_ = [
    '../_base_/datasets/ade847.py',
    '../_base_/pipelines/cat_seg.py',
    '../_base_/models/cat_seg_siglip2_b16_384.py',
    '../_base_/default_runtime.py',
]
test_dataloader = dict(dataset=dict(pipeline={{_base_.cat_seg_test_pipeline_16bit}}))
model = dict(test_vocabulary='ade847')

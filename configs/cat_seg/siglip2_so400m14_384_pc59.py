_base_ = [
    '../_base_/datasets/context59.py',
    '../_base_/pipelines/cat_seg.py',
    '../_base_/models/cat_seg_siglip2_so400m14_384.py',
    '../_base_/default_runtime.py',
]
test_dataloader = dict(dataset=dict(pipeline={{_base_.cat_seg_test_pipeline}}))
model = dict(test_vocabulary='context59_catseg')

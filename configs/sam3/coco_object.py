_base_ = [
    '../_base_/datasets/coco_object.py',
    '../_base_/models/sam3.py',
    '../_base_/default_runtime.py',
]
as_it_is = [step for step in _base_.test_pipeline if step.type != 'Resize']
test_dataloader = dict(dataset=dict(pipeline=as_it_is))
model = dict(vocabulary='coco_object', prob_thd=0.5)  # as SAM 3 cuts its masks; not tuned

"""RefCOCO+: phrases without words of place."""

_base_ = './refer_refcoco.py'
train_dataloader = dict(dataset=dict(ann_file='refcoco+/instances.json'))
val_dataloader = dict(dataset=dict(ann_file='refcoco+/instances.json'))
test_dataloader = dict(dataset=dict(ann_file='refcoco+/instances.json'))

"""RefCOCOg, split by UMD: long phrases."""

_base_ = './refer_refcoco.py'
train_dataloader = dict(dataset=dict(ann_file='refcocog/instances.json', refs_file='refs(umd).p'))
val_dataloader = dict(dataset=dict(ann_file='refcocog/instances.json', refs_file='refs(umd).p'))
test_dataloader = dict(dataset=dict(ann_file='refcocog/instances.json', refs_file='refs(umd).p'))

"""RRSIS-D: aerial images of 800 x 800 in RefCOCO's layout, as RMSIN's authors publish them."""

_base_ = './refer_refcoco.py'
images = dict(img_path='images/rrsisd/JPEGImages')
train_dataloader = dict(
    dataset=dict(data_root='data/rrsisd', ann_file='rrsisd/instances.json', data_prefix=images)
)
val_dataloader = dict(
    dataset=dict(data_root='data/rrsisd', ann_file='rrsisd/instances.json', data_prefix=images)
)
test_dataloader = dict(
    dataset=dict(
        data_root='data/rrsisd', ann_file='rrsisd/instances.json', data_prefix=images, split='test'
    )
)

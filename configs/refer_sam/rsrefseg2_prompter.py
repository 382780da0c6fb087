_base_ = './refcoco.py'
rrsis_d = dict(
    data_root='data/rrsisd',
    ann_file='rrsisd/instances.json',
    data_prefix=dict(img_path='images/rrsisd/JPEGImages'),
)
train_dataloader = dict(batch_size=8, dataset=rrsis_d)
val_dataloader = dict(dataset=rrsis_d)
test_dataloader = dict(dataset=dict(split='test', **rrsis_d))
model = dict(
    backbone=dict(pretrained='google/siglip2-so400m-patch16-512'),
    sam=dict(checkpoint='facebook/sam2.1-hiera-large'),
)
optim_wrapper = dict(clip_grad=dict(max_norm=3.0))

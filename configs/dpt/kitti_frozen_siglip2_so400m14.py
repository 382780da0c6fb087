_base_ = './kitti_frozen.py'
model = dict(backbone=dict(pretrained='google/siglip2-so400m-patch14-384'))

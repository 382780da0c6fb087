_base_ = './kitti_lora.py'
model = dict(backbone=dict(pretrained='google/siglip-so400m-patch14-384'))

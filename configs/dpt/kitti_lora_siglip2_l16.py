_base_ = './kitti_lora.py'
model = dict(backbone=dict(pretrained='google/siglip2-large-patch16-512'))

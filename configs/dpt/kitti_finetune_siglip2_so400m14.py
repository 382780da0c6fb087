_base_ = './kitti_finetune.py'
model = dict(backbone=dict(pretrained='google/siglip2-so400m-patch14-384'))
load_from = 'work_dirs/kitti_frozen_siglip2_so400m14/iter_20000.pth'

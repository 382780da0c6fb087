_base_ = './kitti_finetune.py'
model = dict(backbone=dict(pretrained='google/siglip2-large-patch16-512'))
load_from = 'work_dirs/kitti_frozen_siglip2_l16/iter_20000.pth'

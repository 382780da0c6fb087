_base_ = './kitti_finetune.py'
model = dict(backbone=dict(pretrained='google/siglip-base-patch16-512'))
load_from = 'work_dirs/kitti_frozen_siglip_b16/iter_20000.pth'

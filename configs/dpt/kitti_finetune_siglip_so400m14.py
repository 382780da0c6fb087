_base_ = './kitti_finetune.py'
model = dict(backbone=dict(pretrained='google/siglip-so400m-patch14-384'))
load_from = 'work_dirs/kitti_frozen_siglip_so400m14/iter_20000.pth'

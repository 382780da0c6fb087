_base_ = './nyu_finetune.py'
model = dict(backbone=dict(pretrained='google/siglip-base-patch16-512'))
load_from = 'work_dirs/nyu_frozen_siglip_b16/iter_20000.pth'

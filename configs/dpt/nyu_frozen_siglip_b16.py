_base_ = './nyu_frozen.py'
model = dict(backbone=dict(pretrained='google/siglip-base-patch16-512'))

_base_ = './nyu_frozen.py'
model = dict(backbone=dict(pretrained='google/siglip-so400m-patch14-384'))

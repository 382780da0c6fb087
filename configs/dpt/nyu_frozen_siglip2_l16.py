_base_ = './nyu_frozen.py'
model = dict(backbone=dict(pretrained='google/siglip2-large-patch16-512'))

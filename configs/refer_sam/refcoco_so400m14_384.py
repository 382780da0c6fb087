_base_ = './refcoco.py'
model = dict(backbone=dict(pretrained='google/siglip2-so400m-patch14-384'))

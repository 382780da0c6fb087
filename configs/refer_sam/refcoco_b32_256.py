_base_ = './refcoco.py'
model = dict(backbone=dict(pretrained='google/siglip2-base-patch32-256'))

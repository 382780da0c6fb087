_base_ = './nyu_lora.py'
model = dict(backbone=dict(pretrained='google/siglip-base-patch16-512'))

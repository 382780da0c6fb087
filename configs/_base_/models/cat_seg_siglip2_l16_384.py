"""SigLIP 2 ViT-L/16 at 384 pixels."""

_base_ = './cat_seg.py'
model = dict(
    backbone=dict(type='SigLIPBackbone', pretrained='google/siglip2-large-patch16-384'),
)

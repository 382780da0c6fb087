"""SigLIP 2 ViT-B/16 at 384 pixels."""

_base_ = './cat_seg.py'
model = dict(
    backbone=dict(type='SigLIPBackbone', pretrained='google/siglip2-base-patch16-384'),
)

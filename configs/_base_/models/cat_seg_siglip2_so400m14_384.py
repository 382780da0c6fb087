"""SigLIP 2 So400m/14 at 384 pixels, a grid of 27 x 27."""

_base_ = './cat_seg.py'
model = dict(
    backbone=dict(type='SigLIPBackbone', pretrained='google/siglip2-so400m-patch14-384'),
)

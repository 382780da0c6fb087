"""OpenAI's CLIP ViT-B/16 at 384 pixels."""

_base_ = './cat_seg.py'
model = dict(
    backbone=dict(type='CLIPBackbone', pretrained='ViT-B/16', position_offset=0.0),
)

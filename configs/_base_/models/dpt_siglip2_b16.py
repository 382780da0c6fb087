"""A DPT decoder on SigLIP 2 ViT-B/16 at 512 pixels; for metres, up to 10."""

model = dict(
    type='SigLIPDepthEstimator',
    backbone=dict(type='SigLIPBackbone', pretrained='google/siglip2-base-patch16-512'),
    decode_head=dict(
        type='DPTHead',
        output='metric',
        max_depth=10.0,
        loss_decode=dict(type='SILogDepthLoss', variance_focus=0.5, max_depth=10.0),
    ),
    freeze_backbone=True,
)

"""A DPT decoder on a frozen encoder; for metres, up to 10."""

model = dict(
    type='SigLIPDepthEstimator',
    decode_head=dict(
        type='DPTHead',
        output='metric',
        max_depth=10.0,
        loss_decode=dict(type='SILogDepthLoss', variance_focus=0.5, max_depth=10.0),
    ),
    freeze_backbone=True,
)

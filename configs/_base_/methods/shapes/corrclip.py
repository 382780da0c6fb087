"""The SigLIP that ships along is its own second model; its SAM gives regions."""

attention = dict(
    type='corrclip', guide=dict(type='EncoderGuide', pretrained='tiny_siglip_shapes', block=3)
)
regions = dict(
    type='SAMRegions', sam=dict(type='SAMAdapter', checkpoint='tiny_sam_shapes'), min_stability=0.6
)
label_steps = [dict(type='RegionVote')]

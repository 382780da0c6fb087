"""The SAM that ships along is the second model."""

attention = dict(type='corrclip', guide=dict(type='SAMGuide', pretrained='tiny_sam_shapes'))
regions = dict(
    type='SAMRegions', sam=dict(type='SAMAdapter', checkpoint='tiny_sam_shapes'), min_stability=0.6
)
label_steps = [dict(type='RegionVote')]

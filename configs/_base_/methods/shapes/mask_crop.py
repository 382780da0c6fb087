"""The SAM that ships along is the second model."""

attention = 'mask_crop'
regions = dict(
    type='SAMRegions', sam=dict(type='SAMAdapter', checkpoint='tiny_sam_shapes'), min_stability=0.6
)

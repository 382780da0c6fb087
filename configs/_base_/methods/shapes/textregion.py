"""The SAM that ships along is the second model."""

attention = 'textregion'
regions = dict(
    type='SAMRegions', sam=dict(type='SAMAdapter', checkpoint='tiny_sam_shapes'), min_stability=0.6
)

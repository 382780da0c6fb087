"""The baseline: each mask of SAM cropped and read as an image of its own."""

attention = 'mask_crop'
regions = dict(
    type='CachedRegions',
    proposer=dict(
        type='SAMRegions',
        sam=dict(type='SAMAdapter', checkpoint='facebook/sam-vit-base'),
        points_per_side=32,
    ),
)

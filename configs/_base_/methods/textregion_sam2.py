"""TextRegion with the masks of SAM 2, those of one thing made one,
https://arxiv.org/abs/2505.23769."""

attention = dict(type='textregion', merge=True)
regions = dict(
    type='CachedRegions',
    proposer=dict(
        type='SAMRegions',
        sam=dict(type='SAMAdapter', checkpoint='facebook/sam2.1-hiera-large'),
        points_per_side=16,
        min_iou=0.6,
        min_stability=0.6,
        max_iou=0.9,
        multimask=True,
        overlap=True,
    ),
)

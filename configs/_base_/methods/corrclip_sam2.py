"""CorrCLIP with the masks of SAM 2, https://arxiv.org/abs/2411.10086."""

attention = 'corrclip'
regions = dict(
    type='CachedRegions',
    proposer=dict(
        type='SAMRegions', sam=dict(type='SAMAdapter', checkpoint='facebook/sam2.1-hiera-large')
    ),
)
label_steps = [dict(type='RegionVote')]

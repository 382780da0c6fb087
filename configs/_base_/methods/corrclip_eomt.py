"""CorrCLIP with the segments of EoMT, which learnt from the masks of COCO: supervised."""

attention = 'corrclip'
regions = dict(
    type='CachedRegions',
    proposer=dict(type='PanopticRegions', pretrained='tue-mps/coco_panoptic_eomt_large_640'),
)
label_steps = [dict(type='RegionVote')]

_base_ = './shapes.py'
model = dict(
    postprocessor=dict(
        type='SAMProposals',
        proposer=dict(
            type='SAMPointGrid',
            sam=dict(type='SAMAdapter', checkpoint='tiny_sam_shapes'),
            points_per_side=8,
            min_iou=0.4,
            min_stability=0.6,
        ),
    ),
)

"""iSAID val, background and 15 classes, in tiles of 896 pixels as cut by MMSegmentation."""

_base_ = '../pipelines/short_side.py'
_base_.test_pipeline[1].scale = _base_.tta_pipeline[1].transforms[0][0].scale = (2048, 448)
test_dataloader = dict(
    dataset=dict(
        type='iSAIDDataset',
        data_root='data/iSAID',
        data_prefix=dict(img_path='img_dir/val', seg_map_path='ann_dir/val'),
        pipeline=_base_.test_pipeline,
    ),
)

"""ISPRS Vaihingen, 6 classes, in tiles of 512 pixels as cut by MMSegmentation."""

_base_ = '../pipelines/short_side.py'
_base_.test_pipeline[1].scale = _base_.tta_pipeline[1].transforms[0][0].scale = (2048, 448)
test_dataloader = dict(
    dataset=dict(
        type='ISPRSDataset',
        data_root='data/vaihingen',
        data_prefix=dict(img_path='img_dir/val', seg_map_path='ann_dir/val'),
        pipeline=_base_.test_pipeline,
    ),
)

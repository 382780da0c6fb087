"""UDD5 val, 5 classes, https://github.com/MarcWong/UDD."""

_base_ = '../pipelines/short_side.py'
_base_.test_pipeline[1].scale = _base_.tta_pipeline[1].transforms[0][0].scale = (2048, 448)
test_dataloader = dict(
    dataset=dict(
        type='FolderDataset',
        data_root='data/UDD5',
        data_prefix=dict(img_path='val/src', seg_map_path='val/gt'),
        vocabulary='udd5',
        img_suffix='.JPG',
        pipeline=_base_.test_pipeline,
    ),
)

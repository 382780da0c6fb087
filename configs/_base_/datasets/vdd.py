"""VDD val, 7 classes, https://github.com/RussRobin/VDD."""

_base_ = '../pipelines/short_side.py'
_base_.test_pipeline[1].scale = _base_.tta_pipeline[1].transforms[0][0].scale = (2048, 448)
test_dataloader = dict(
    dataset=dict(
        type='FolderDataset',
        data_root='data/VDD',
        data_prefix=dict(img_path='val/src', seg_map_path='val/gt'),
        vocabulary='vdd',
        img_suffix='.JPG',
        pipeline=_base_.test_pipeline,
    ),
)

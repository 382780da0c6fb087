"""OpenEarthMap val, 8 kinds of land, https://open-earth-map.org."""

_base_ = '../pipelines/short_side.py'
_base_.test_pipeline[1].scale = _base_.tta_pipeline[1].transforms[0][0].scale = (2048, 448)
test_dataloader = dict(
    dataset=dict(
        type='GroupedFolderDataset',
        data_root='data/OpenEarthMap_wo_xBD',
        image_folder='images',
        label_folder='labels',
        ann_file='val.txt',
        vocabulary='openearthmap',
        label_values=[1, 2, 3, 4, 5, 6, 7, 8],
        void_values=[0],
        img_suffix='.tif',
        seg_map_suffix='.tif',
        pipeline=_base_.test_pipeline,
    ),
)

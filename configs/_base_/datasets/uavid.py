"""UAVid val, 8 classes in coloured labels, https://uavid.nl."""

_base_ = '../pipelines/short_side.py'
_base_.test_pipeline[1].scale = _base_.tta_pipeline[1].transforms[0][0].scale = (2048, 448)
test_dataloader = dict(
    dataset=dict(
        type='GroupedFolderDataset',
        data_root='data/uavid',
        data_prefix=dict(img_path='uavid_val'),
        image_folder='Images',
        label_folder='Labels',
        vocabulary='uavid',
        label_colours=[
            [0, 0, 0],
            [128, 0, 0],
            [128, 64, 128],
            [192, 0, 192],
            [0, 128, 0],
            [128, 128, 0],
            [64, 64, 0],
            [64, 0, 128],
        ],
        void_colours=[[255, 255, 255]],
        img_suffix='.png',
        seg_map_suffix='.png',
        pipeline=_base_.test_pipeline,
    ),
)

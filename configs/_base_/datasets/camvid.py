"""CamVid val as in SegNet, 11 classes, for checks on real images."""

_base_ = '../pipelines/short_side.py'
test_dataloader = dict(
    dataset=dict(
        type='FolderDataset',
        data_root='{{$MMSEG_SIGLIP_DATA:data}}/camvid',
        data_prefix=dict(img_path='val', seg_map_path='valannot'),
        vocabulary='camvid',
        void_values=[11],
        img_suffix='.png',
        pipeline=_base_.test_pipeline,
    ),
)

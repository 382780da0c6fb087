"""PASCAL Context val, 459 classes in 16-bit labels."""

_base_ = '../pipelines/short_side.py'
_base_.test_pipeline[2].ignore_index = 65535
_base_.tta_pipeline[1].transforms[2][0].ignore_index = 65535
test_dataloader = dict(
    dataset=dict(
        type='PascalContext459Dataset',
        data_root='data/VOCdevkit/VOC2010',
        data_prefix=dict(img_path='JPEGImages', seg_map_path='annotations_detectron2/pc459_val'),
        ann_file='ImageSets/SegmentationContext/val.txt',
        pipeline=_base_.test_pipeline,
    ),
)
test_evaluator = dict(ignore_index=65535)

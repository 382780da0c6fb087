"""ADE20K full val, 847 classes in 16-bit labels."""

_base_ = '../pipelines/short_side.py'
_base_.test_pipeline[2].ignore_index = 65535
_base_.tta_pipeline[1].transforms[2][0].ignore_index = 65535
test_dataloader = dict(
    dataset=dict(
        type='ADE20K847Dataset',
        data_root='data/ade/ADE20K_2021_17_01',
        data_prefix=dict(
            img_path='images_detectron2/validation',
            seg_map_path='annotations_detectron2/validation',
        ),
        pipeline=_base_.test_pipeline,
    ),
)
test_evaluator = dict(ignore_index=65535)

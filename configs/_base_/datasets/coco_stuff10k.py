"""COCO-Stuff 10k test2014, 171 classes; label 0 is void."""

_base_ = '../pipelines/short_side.py'
test_dataloader = dict(
    dataset=dict(
        type='COCOStuffDataset',
        data_root='data/coco_stuff10k',
        data_prefix=dict(img_path='images/test2014', seg_map_path='annotations/test2014'),
        reduce_zero_label=True,
        pipeline=_base_.test_pipeline,
    ),
)

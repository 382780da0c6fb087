"""A handful of COCO photographs with panoptic category ids, for checks on real images."""

_base_ = '../pipelines/short_side.py'
no_thing = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)
no_stuff = (91, 94, 96, 97, 98, 99, 101, 102, 103, 104, 105, 106, 108, 110, 111, 113, 114, 115)
no_stuff += (116, 117, 120, 121, 123, 124, 126, 127, 129, 131, 132, 134, 135, 136, 137, 139, 140)
no_stuff += (142, 143, 146, 150, 152, 153, 157, 158, 160, 162, 163, 164, 165, 167, 169, 170, 172)
no_stuff += (173, 174, 179, 182, 183)
category_ids = [index for index in range(1, 201) if index not in no_thing + no_stuff]
_base_.test_pipeline[1].scale = _base_.tta_pipeline[1].transforms[0][0].scale = (2048, 448)
test_dataloader = dict(
    dataset=dict(
        type='FolderDataset',
        data_root='{{$MMSEG_SIGLIP_DATA:data}}/coco-mini',
        data_prefix=dict(img_path='images', seg_map_path='masks'),
        vocabulary='coco_panoptic',
        label_values=category_ids,
        void_values=[0],
        pipeline=_base_.test_pipeline,
    ),
)

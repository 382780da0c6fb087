"""CAT-Seg as published, on any encoder."""

model = dict(
    type='CATSegSegmentor',
    decode_head=dict(type='CATSegHead'),
    vocabulary='coco_stuff_catseg',
    data_preprocessor=dict(
        type='ImageListPreProcessor',
        bgr_to_rgb=True,
        size=(384, 384),
        pad_val=0,
        seg_pad_val=255,
    ),
    test_cfg=dict(
        mode='slide_global',
        image_size=(640, 640),
        crop_size=(384, 384),
        stride=(256, 256),
        window_batch=5,
    ),
)
tta_model = dict(type='OpenVocabularyTTAModel')

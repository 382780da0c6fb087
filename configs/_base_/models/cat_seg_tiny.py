"""CAT-Seg in small, for the SigLIP that ships along."""

model = dict(
    type='CATSegSegmentor',
    decode_head=dict(
        type='CATSegHead',
        channels=64,
        window=8,
        test_pooling=2,
        guidance_channels=32,
        text_channels=32,
        pad_len=64,
        decoder_widths=(32, 16),
        guidance_widths=(64, 32),
        guidance_proj_widths=(16, 8),
        loss_decode=dict(type='DenseBCELoss', ignore_as_negative=False),
    ),
    attention='csa',  # what suits this encoder, see configs/sclip/shapes.py
    readout='value',
    data_preprocessor=dict(
        type='ImageListPreProcessor', bgr_to_rgb=True, size=(64, 64), pad_val=0, seg_pad_val=255
    ),
    test_cfg=dict(mode='slide', crop_size=(64, 64), stride=(32, 32), window_batch=16),
)
tta_model = dict(type='OpenVocabularyTTAModel')

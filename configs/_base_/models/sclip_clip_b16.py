"""SCLIP on OpenAI's CLIP ViT-B/16, as published."""

model = dict(
    type='SCLIPSegmentor',
    backbone=dict(type='CLIPBackbone', pretrained='ViT-B/16'),
    templates='imagenet80',
    attention='csa',
    logit_scale=40,
    prob_thd=0.0,
    test_cfg=dict(mode='slide', crop_size=(224, 224), stride=(112, 112)),
)
tta_model = dict(type='OpenVocabularyTTAModel')

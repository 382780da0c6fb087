"""The same on SigLIP 2 ViT-B/16 at 224 pixels."""

model = dict(
    type='SCLIPSegmentor',
    backbone=dict(type='SigLIPBackbone', pretrained='google/siglip2-base-patch16-224'),
    templates='imagenet80',
    prob_thd=0.0,
    test_cfg=dict(mode='slide', crop_size=(224, 224), stride=(112, 112)),
)
tta_model = dict(type='OpenVocabularyTTAModel')

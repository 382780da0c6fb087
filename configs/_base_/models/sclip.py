"""SCLIP's model on any encoder, with the scale that the encoder was trained with."""

model = dict(
    type='SCLIPSegmentor',
    templates='imagenet80',
    prob_thd=0.0,
    test_cfg=dict(mode='slide', crop_size=(224, 224), stride=(112, 112)),
)
tta_model = dict(type='OpenVocabularyTTAModel')

from mmseg_siglip.models.segmentors.sclip import SCLIPSegmentor
from mmseg_siglip.models.segmentors.tta import OpenVocabularyTTAModel

__all__ = ['OpenVocabularyTTAModel', 'SCLIPSegmentor']

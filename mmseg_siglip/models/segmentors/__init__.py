from mmseg_siglip.models.segmentors.depth_estimator import SigLIPDepthEstimator
from mmseg_siglip.models.segmentors.sclip import SCLIPSegmentor
from mmseg_siglip.models.segmentors.tta import OpenVocabularyTTAModel

__all__ = ['OpenVocabularyTTAModel', 'SCLIPSegmentor', 'SigLIPDepthEstimator']

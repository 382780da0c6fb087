from mmseg_siglip.models.segmentors.cat_seg import CATSegSegmentor
from mmseg_siglip.models.segmentors.depth_estimator import SigLIPDepthEstimator
from mmseg_siglip.models.segmentors.depth_model import DepthModel
from mmseg_siglip.models.segmentors.open_vocabulary import OpenVocabularySegmentor
from mmseg_siglip.models.segmentors.published_depth import PublishedDepthEstimator
from mmseg_siglip.models.segmentors.referring import ReferringSegmentor
from mmseg_siglip.models.segmentors.sam3 import SAM3Segmentor
from mmseg_siglip.models.segmentors.sclip import SCLIPSegmentor
from mmseg_siglip.models.segmentors.tta import OpenVocabularyTTAModel

__all__ = [
    'CATSegSegmentor',
    'DepthModel',
    'OpenVocabularySegmentor',
    'OpenVocabularyTTAModel',
    'PublishedDepthEstimator',
    'ReferringSegmentor',
    'SAM3Segmentor',
    'SCLIPSegmentor',
    'SigLIPDepthEstimator',
]

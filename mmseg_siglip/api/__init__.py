"""The one front door: systems by task, what they are asked, what they answer."""

from mmseg_siglip.lazy import lazy

OFFERED = {
    'mmseg_siglip.api.ask': ('VisionChat',),
    'mmseg_siglip.api.depth': (
        'DepthPredictor',
        'create_depth_model',
        'load_depth_model',
        'predict_depth',
    ),
    'mmseg_siglip.api.refer': ('ReferringSegmenter',),
    'mmseg_siglip.api.results': ('Answer', 'DepthMap', 'NormalMap', 'Result'),
    'mmseg_siglip.api.segment': ('METHODS', 'OpenVocabSegmenter'),
    'mmseg_siglip.api.segmentation': ('Referred', 'Segmentation'),
    'mmseg_siglip.api.system': ('SYSTEMS', 'System'),
    'mmseg_siglip.patch_stats': ('depth_to_patch_stats',),
    'mmseg_siglip.vlm.loader': ('load_pretrained_model',),
}
__getattr__, __dir__, __all__ = lazy(__name__, OFFERED)

"""SigLIP as the eyes of LLaVA-like models, with depth as an extra sense."""

from mmseg_siglip.lazy import lazy

__getattr__, __dir__, __all__ = lazy(
    __name__,
    {
        'mmseg_siglip.api.ask': ('VisionChat',),
        'mmseg_siglip.vlm.assemble': ('PretrainedVLM', 'build_llava'),
        'mmseg_siglip.vlm.build': ('CustomVisionConfig', 'build_vision_tower'),
        'mmseg_siglip.vlm.fusion': ('depth_statistics',),
        'mmseg_siglip.vlm.llava': ('LlavaForConditionalGeneration',),
        'mmseg_siglip.vlm.loader': ('load_pretrained_model',),
        'mmseg_siglip.vlm.tower': ('CLIPVisionTower', 'SigLIPVisionTower'),
        'mmseg_siglip.vlm.trainer': ('LlavaTrainer',),
    },
)

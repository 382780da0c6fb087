"""SigLIP as the eyes of LLaVA-like models, with depth as an extra sense."""

from mmseg_siglip.lazy import lazy

__getattr__, __dir__, __all__ = lazy(
    __name__,
    {
        name: f'{__name__}.{module}:{name}'
        for module, names in {
            'assemble': ('PretrainedVLM', 'build_llava'),
            'build': ('CustomVisionConfig', 'build_vision_tower'),
            'chat': ('VisionChat',),
            'fusion': ('depth_statistics',),
            'llava': ('LlavaForConditionalGeneration',),
            'loader': ('load_pretrained_model',),
            'tower': ('CLIPVisionTower', 'SigLIPVisionTower'),
            'trainer': ('LlavaTrainer',),
        }.items()
        for name in names
    },
)

"""SigLIP as the eyes of LLaVA-like models, with depth as an extra sense."""

from mmseg_siglip.vlm.assemble import PretrainedVLM, build_llava
from mmseg_siglip.vlm.build import CustomVisionConfig, build_vision_tower
from mmseg_siglip.vlm.chat import VisionChat
from mmseg_siglip.vlm.fusion import depth_statistics
from mmseg_siglip.vlm.llava import LlavaForConditionalGeneration
from mmseg_siglip.vlm.loader import load_pretrained_model
from mmseg_siglip.vlm.tower import CLIPVisionTower, SigLIPVisionTower
from mmseg_siglip.vlm.trainer import LlavaTrainer

__all__ = [
    'CLIPVisionTower',
    'CustomVisionConfig',
    'LlavaForConditionalGeneration',
    'LlavaTrainer',
    'PretrainedVLM',
    'SigLIPVisionTower',
    'VisionChat',
    'build_llava',
    'build_vision_tower',
    'depth_statistics',
    'load_pretrained_model',
]

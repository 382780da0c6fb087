"""Tiny second models with random weights that matter."""

import torch
from tiny_sams import SAM_CONFIG, disturb

from mmseg_siglip.models.guides import build_guide

SIZES = dict(hidden_size=32, num_hidden_layers=3, num_attention_heads=2, image_size=32)
MLP = dict(intermediate_size=48)
GUIDES = dict(
    DINOGuide=dict(SIZES, **MLP, patch_size=8),
    MAEGuide=dict(SIZES, **MLP, patch_size=8),
    DINOv2Guide=dict(SIZES, mlp_ratio=2, patch_size=4, num_register_tokens=2),
    DINOv3Guide=dict(SIZES, **MLP, patch_size=8, num_register_tokens=2),
    SAMGuide=SAM_CONFIG
    | dict(vision_config=SAM_CONFIG['vision_config'] | dict(global_attn_indexes=[2])),
)


def tiny_guide(name='DINOGuide', site=None, **config):
    """A guide of random weights, the same at each call."""
    torch.manual_seed(0)
    options = {} if site is None else dict(site=site)
    guide = build_guide(dict(type=name, config=GUIDES[name] | config, **options))
    disturb(guide.model, scale=0.2)
    return guide

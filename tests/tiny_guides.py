"""Tiny second models with random weights that matter."""

import torch
from tiny_sams import disturb

from mmseg_siglip.models.guides import build_guide

SIZES = dict(hidden_size=32, num_hidden_layers=3, num_attention_heads=2, image_size=32)
MLP = dict(intermediate_size=48)
GUIDES = dict(
    DINOGuide=dict(SIZES, **MLP, patch_size=8),
)


def tiny_guide(name='DINOGuide', site=None, **config):
    """A guide of random weights, the same at each call."""
    torch.manual_seed(0)
    options = {} if site is None else dict(site=site)
    guide = build_guide(dict(type=name, config=GUIDES[name] | config, **options))
    disturb(guide.model, scale=0.2)
    return guide

"""Which guide a checkpoint is for, by what it holds."""

from __future__ import annotations

from typing import Any

from mmseg_siglip.models.adapters.dinov3 import PERIODS
from mmseg_siglip.models.adapters.segment_anything import MARK as SAM_MARK
from mmseg_siglip.models.adapters.timm_vit import MARK as VIT_MARK
from mmseg_siglip.models.backbones.build import find_encoder
from mmseg_siglip.models.guides.load import of_timm
from mmseg_siglip.weights.source import Source

KINDS = dict(
    vit='DINOGuide',
    vit_mae='MAEGuide',
    dinov2='DINOv2Guide',
    dinov2_with_registers='DINOv2Guide',
    dinov3_vit='DINOv3Guide',
    sam='SAMGuide',
)
"""Guides by transformers' names of the kinds of model."""
OF_VITS = {'DINOGuide', 'MAEGuide', 'DINOv2Guide', 'DINOv3Guide'}
LAYER_SCALE = 'blocks.0.ls1.gamma'


def find_guide(source: str, *, site: str = 'tokens') -> dict[str, Any]:
    """Configuration of the guide that a checkpoint is for.

    A plain ViT in a file or of timm counts as DINO's, one with layer scales as DINOv2's, as no
    tensor tells what it learnt from, and one with rotations as DINOv3's.

    Args:
        source: A file, a folder, a Hub id or timm's name; or whatever `build_encoder` takes, which
            becomes an `EncoderGuide`.
        site: What is read of a guide that has a choice, see `ViTGuide`.

    Raises:
        ValueError: Nothing known is there; the message lists what was looked for.
    """
    held = Source.open(of_timm(source))
    kind = KINDS.get(held.model_type) or kind_of_layout(held)
    if kind is None:
        find_encoder(held)
        kind = 'EncoderGuide'
    return dict(type=kind, pretrained=source, **(dict(site=site) if kind in OF_VITS else {}))


def kind_of_layout(source: Source) -> str | None:
    """The guide of a publisher's file, or of timm's model; None where it is neither."""
    if SAM_MARK in source.tensors:
        return 'SAMGuide'
    if VIT_MARK in source.tensors and PERIODS in source.tensors:
        return 'DINOv3Guide'
    if VIT_MARK in source.tensors:
        return 'DINOv2Guide' if LAYER_SCALE in source.tensors else 'DINOGuide'
    name = '' if source.is_file else str(source.config.get('architecture', ''))
    if not name.startswith('vit_'):
        return None
    return dict(dinov2='DINOv2Guide', dinov3='DINOv3Guide').get(name.split('_')[-1], 'DINOGuide')

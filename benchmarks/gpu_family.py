"""What each dense method costs, for benchmarks/gpu.py."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from gpu_training import SAM, SMALL_SAM
from torch import Tensor

from mmseg_siglip.api import OpenVocabSegmenter
from mmseg_siglip.models.backbones.trunk import method_names
from mmseg_siglip.models.regions import RegionProposer
from mmseg_siglip.registry import DENSE_METHODS

if TYPE_CHECKING:
    from gpu import Clock

DINO = dict(model_type='vit', patch_size=16, image_size=224)
SMALL_DINO = dict(
    DINO,
    patch_size=32,
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=64,
)
TILES = (3, 4)


class Tiles(RegionProposer):
    """Twelve regions, for nothing."""

    def forward(self, pixels: Tensor) -> Tensor:
        rows, columns = (
            torch.arange(side, device=pixels.device) * count // side
            for side, count in zip(pixels.shape[-2:], TILES, strict=True)
        )
        return rows[:, None] * TILES[1] + columns + 1


def settings_of(name: str, *, small: bool) -> dict[str, Any]:
    """A method with second models of random weights, DINO and SAM with ViT-B."""
    kind, config = DENSE_METHODS.get(name), dict(type=name)
    if kind.uses_guide:
        config['guide'] = dict(type='DINOGuide', config=SMALL_DINO if small else DINO)
    if name == 'trident':
        config['sam'] = dict(type='SAMGuide', config=SMALL_SAM if small else SAM)
    return config


def family_rows(
    system: OpenVocabSegmenter,
    words: Sequence[str],
    images: Sequence[Tensor],
    clock: Clock,
    *,
    small: bool,
) -> Iterator[tuple[str, float, str]]:
    """Of each method of the encoder: its name, seconds an image and a note, of its memory or of why
    there are none."""
    model, kinds = system.model, set()
    for name in method_names():
        kind = DENSE_METHODS.get(name)
        if kind in kinds:
            continue
        kinds.add(kind)
        model.proposer = Tiles() if kind.uses_regions else None
        try:
            model.attention = settings_of(name, small=small)
            model.to(clock.device)
        except ValueError as error:  # not with this encoder
            yield name, float('nan'), str(error)[:100]
            continue
        seconds = clock(lambda: system.torch(images, words), 2) / len(images)
        memory = clock.peak(lambda: system.torch(images, words))
        marks = ['a guide'] * kind.uses_guide + ['12 regions given'] * kind.uses_regions
        yield name, seconds, ', '.join(marks + [f'{memory} GB'] * bool(memory))

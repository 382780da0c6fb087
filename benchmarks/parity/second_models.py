"""The seeded second models of recorded outputs as guides, and windows through a segmentor."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import torch
from golden import MARKS, Golden
from torch import Tensor

from mmseg_siglip.models.adapters.segment_anything import to_transformers
from mmseg_siglip.models.guides import DINOGuide, DINOv2Guide, Guide, SAMGuide
from mmseg_siglip.models.segmentors import SCLIPSegmentor

FOLDER = tempfile.TemporaryDirectory()
SAM = dict(
    model_type='sam',
    vision_config=dict(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        mlp_dim=128,
        global_attn_indexes=[1],
    ),
)


class Given(SCLIPSegmentor):
    """A segmentor that is told its words' vectors (Q, D)."""

    words: Tensor

    def embed(self) -> Tensor:
        return self.words


@cache
def guide(golden: Golden, name: str, site: str = 'tokens') -> Guide:
    """``dino8``, ``dino16``, ``dinov2reg14`` or ``sam``."""
    tiny = golden.module('guided/tiny_guide.py')
    path = Path(FOLDER.name, name)
    if name == 'sam':
        found = SAMGuide(config=SAM)
        state = {f'image_encoder.{k}': v for k, v in tiny.sam_state_dict().items()}
        state = {k.removeprefix('vision_encoder.'): v for k, v in to_transformers(state).items()}
        found.model.load_state_dict(state)
        return found
    if name == 'dinov2reg14':
        tiny.hf_dinov2reg().save_pretrained(path)
        return DINOv2Guide(str(path), site=site)
    torch.save(tiny.dino_state_dict(int(name.removeprefix('dino'))), path)
    return DINOGuide(str(path), config=dict(num_attention_heads=2), site=site)


def queries(golden: Golden) -> Tensor:
    """The words' vectors, (8, 64)."""
    return golden.module('guided/tiny_guide.py').queries(8)


def segmentor(
    golden: Golden, attention: dict, *, layers: int = 3, backbone: dict | None = None, **options
) -> Given:
    """A segmentor on the seeded CLIP that looks for `queries`; windows as ``test_cfg`` says."""
    path = Path(FOLDER.name, f'clip{layers}.pt')
    state = golden.tiny_clip.state_dict(layers=layers)
    torch.save(state | {name: torch.tensor(value) for name, value in MARKS.items()}, path)
    model = Given(
        dict(pretrained=str(path), **(backbone or {})),
        [f'word {i}' for i in range(8)],
        templates='plain',
        attention=attention,
        **options,
    )
    model.words = queries(golden)
    return model.eval()


def stitched(model: Given, image: Tensor, size: tuple[int, int]) -> np.ndarray:
    """Mean cosines (Q, H, W) of a picture (1, 3, h, w), normalised, at a size."""
    (seen,) = model._look([image[0]], [None])
    return model._stitch(seen.cosines, seen.windows, size).rows(0, size[0]).numpy()

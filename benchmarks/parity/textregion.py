"""TextRegion's two ways of pooling (https://github.com/avaxiao/TextRegion at e392cd2)."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache, partial
from pathlib import Path

import torch
from golden import Case, Golden
from second_models import FOLDER, queries
from torch import Tensor
from torch.nn.functional import normalize
from transformers import SiglipConfig, SiglipModel

from mmseg_siglip.models.backbones import SigLIPBackbone
from mmseg_siglip.models.backbones.trunk import Trunk
from mmseg_siglip.models.dense.region_masks import RegionMasks
from mmseg_siglip.models.dense.textregion import (
    TextRegion,
    mask_weights,
    pooled_maps,
    redundant,
)

FILE = 'textregion_tiny'
SIGLIP = dict(native=(224, 224), wide=(224, 336))
CLIP = dict(single=(224, 224), multi=(448, 448))
SCALE, BIAS = 100.0, -10.0
SIGLIP_CONFIG = dict(
    model_type='siglip',
    vision_config=dict(
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=3,
        num_attention_heads=2,
        image_size=224,
        patch_size=16,
    ),
    text_config=dict(
        hidden_size=64,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        vocab_size=64,
        bos_token_id=0,
        eos_token_id=1,
        projection_size=64,
    ),
)


def cases(golden: Golden) -> Iterator[Case]:
    for name, size in SIGLIP.items():
        for part in ('logits', 'removed', 'z', 'keep'):
            run = partial(by_siglip, golden, size, part)
            # Cosines times 100.
            tolerance = 1e-3 if part == 'logits' else 1e-4
            yield Case('textregion', FILE, f'siglip_{name}_{part}', run, tolerance=tolerance)
    for name, size in CLIP.items():
        for part in ('logits', 'aliased_logits', 'removed', 'keep'):
            run = partial(by_clip, golden, size, part)
            yield Case('textregion', FILE, f'clip_{name}_{part}', run)


def masks(golden: Golden, size: tuple[int, int]) -> Tensor:
    blobs = golden.module('guided/tiny_guide.py').masks('blobs', *size)
    return torch.stack([blobs == label for label in range(1, 7)])


@cache
def siglip(golden: Golden) -> SigLIPBackbone:
    fields = {name: value for name, value in SIGLIP_CONFIG.items() if name != 'model_type'}
    state = SiglipModel(SiglipConfig(**fields)).state_dict()
    for name, value in (
        golden.module('guided/tiny_guide.py').hf_siglip_vision().state_dict().items()
    ):
        state[f'vision_model.{name.removeprefix("vision_model.")}'] = value
    path = Path(FOLDER.name, 'siglip.pth')
    torch.save(state, path)
    return SigLIPBackbone(str(path), config=SIGLIP_CONFIG).requires_grad_(False)


def by_siglip(golden: Golden, size: tuple[int, int], part: str) -> Tensor:
    """One view."""
    encoder = siglip(golden)
    seen = encoder.trunk(encoder.from_pixels(golden.pixels(91, *size)))
    maps = pooled_maps(seen)
    found = pooled(golden, TextRegion(parity=True), seen, maps[0].flatten(1).T, size, part)
    return found * SCALE + BIAS if part == 'logits' else found


def by_clip(golden: Golden, size: tuple[int, int], part: str) -> Tensor:
    """One view, or the whole picture and four crops."""
    trunk, multi = golden.clip(3).trunk(golden.picture(92, *size)), size == CLIP['multi']
    method = TextRegion(
        parity=True, resample='bilinear', unit_values=multi and part.startswith('aliased')
    )
    seen, crops = method.seen(trunk) if multi else (trunk, (1, 1))
    patches = method.patches(seen, crops) if multi else pooled_maps(seen)[0].flatten(1).T
    return pooled(golden, method, seen, patches, size, part)


def pooled(
    golden: Golden,
    method: TextRegion,
    seen: Trunk,
    patches: Tensor,
    size: tuple[int, int],
    part: str,
) -> Tensor:
    patch = seen.encoder.patch_size
    weights = mask_weights(RegionMasks(masks(golden, size)), tuple(side // patch for side in size))
    if part == 'z':
        return patches[::4]
    if part == 'removed':
        return redundant(normalize(patches, dim=-1), weights, method.threshold)
    vectors, kept = method.pool(seen, patches, weights)
    return kept if part == 'keep' else normalize(vectors[kept], dim=-1) @ queries(golden).T

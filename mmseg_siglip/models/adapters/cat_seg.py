"""Published CAT-Seg checkpoints (Detectron2) as weights of a `CATSegSegmentor`.

The one place that knows their names: https://github.com/cvlab-kaist/CAT-Seg.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

AGGREGATOR = 'sem_seg_head.predictor.transformer.'
CLIP = 'sem_seg_head.predictor.clip_model.'

_LAYER = r'^layers\.(\d+)\.'
HEAD_RENAMES = (
    (_LAYER + r'swin_block\.guidance_norm\.', r'aggregator.layers.\1.spatial.guidance_norm.'),
    (_LAYER + r'swin_block\.block_1\.', r'aggregator.layers.\1.spatial.blocks.0.'),
    (_LAYER + r'swin_block\.block_2\.', r'aggregator.layers.\1.spatial.blocks.1.'),
    (_LAYER + r'attention\.MLP\.', r'aggregator.layers.\1.classes.mlp.'),
    (_LAYER + r'attention\.', r'aggregator.layers.\1.classes.'),
    (r'^conv1\.', 'aggregator.embedding.'),
    (r'^guidance_projection\.', 'aggregator.guidance_projection.'),
    (r'^text_guidance_projection\.', 'aggregator.text_projection.'),
    (r'^decoder_guidance_projection\.', 'decoder.guidance_projections.'),
    (r'^decoder1\.', 'decoder.steps.0.'),
    (r'^decoder2\.', 'decoder.steps.1.'),
    (r'^head\.', 'decoder.out.'),
    (r'\.mlp\.fc1\.', '.mlp.0.'),
    (r'\.mlp\.fc2\.', '.mlp.2.'),
    (r'\.conv\.double_conv\.0\.', '.conv1.'),
    (r'\.conv\.double_conv\.1\.', '.norm1.'),
    (r'\.conv\.double_conv\.3\.', '.conv2.'),
    (r'\.conv\.double_conv\.4\.', '.norm2.'),
)
DERIVED = re.compile(
    r'(^|\.)(attn_mask|clip_pixel_mean|clip_pixel_std|pixel_mean|pixel_std)$'
    r'|^sem_seg_head\.predictor\.text_features(_test)?$'
)
"""Buffers that are computed from the configuration, not learned."""
SEPARATE = re.compile(r'^(.*\.attn)\.([qkv])_proj_weight$')


def head_weights(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names of the published aggregator (without its prefix) to those of `CATSegHead`."""
    renamed = {}
    for name, value in state.items():
        for pattern, replacement in HEAD_RENAMES:
            name = re.sub(pattern, replacement, name)
        renamed[name] = value
    return renamed


def clip_weights(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names of the published CLIP (without its prefix) to open_clip's, q, k and v fused."""
    renamed, parts = {}, {}
    for name, value in state.items():
        match = SEPARATE.match(name)
        if match:
            parts.setdefault(f'{match[1]}.in_proj_weight', {})[match[2]] = value
        else:
            renamed[name] = value
    for name, part in parts.items():
        if set(part) != set('qkv'):
            raise ValueError(f'{name}: expected q, k and v, found {", ".join(sorted(part))}')
        renamed[name] = torch.cat([part[which] for which in 'qkv'])
    return renamed


def from_detectron2(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A published state dict as that of a `CATSegSegmentor` on a `CLIPBackbone`.

    Raises:
        ValueError: It holds a tensor that CAT-Seg's CVPR 2024 code does not have.
    """
    aggregator, clip, result, strange = {}, {}, {}, []
    for name, value in state.items():
        if DERIVED.search(name):
            continue
        if name.startswith(AGGREGATOR):
            aggregator[name.removeprefix(AGGREGATOR)] = value
        elif name.startswith(CLIP):
            clip[name.removeprefix(CLIP)] = value
        elif name.startswith(('upsample1.', 'upsample2.')):
            result[f'decode_head.{name}'] = value
        else:
            strange.append(name)
    if strange or not aggregator or not clip:
        raise ValueError(
            f'expected a CAT-Seg checkpoint of 2024 with {AGGREGATOR}*, {CLIP}* and upsample*, '
            f'found {len(aggregator)}, {len(clip)} and {len(result)} tensors of them and '
            f'{len(strange)} others{f" (first {strange[0]})" if strange else ""}'
        )
    result.update(
        {f'decode_head.{name}': value for name, value in head_weights(aggregator).items()}
    )
    result.update({f'backbone.model.{name}': value for name, value in clip_weights(clip).items()})
    return result

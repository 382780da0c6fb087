"""DINOv3's ViTs by the names of the release (torch.hub, https://github.com/facebookresearch/dinov3)
for transformers.

Names as published; not tried on a released file. Queries, keys and values are one matrix, keys have
a bias that a mask takes away, and periods of rotations lie beside the weights.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mmseg_siglip.models.adapters.timm_vit import BLOCK, MARK

PERIODS = 'rope_embed.periods'
TRAINING = ('local_cls_norm.', PERIODS)
"""What a file holds beside the weights of a model that looks at whole images."""
CLOSE = 1e-2
"""Relative error of periods, which may have been kept in bfloat16."""
RENAMES = (
    (r'^cls_token$', 'embeddings.cls_token'),
    (r'^mask_token$', 'embeddings.mask_token'),
    (r'^storage_tokens$', 'embeddings.register_tokens'),
    (r'^patch_embed\.proj\.', 'embeddings.patch_embeddings.'),
    (r'^blocks\.', 'model.layer.'),
    (r'\.attn\.proj\.', '.attention.o_proj.'),
    (r'\.ls([12])\.gamma$', r'.layer_scale\1.lambda1'),
    (r'\.mlp\.fc1\.', '.mlp.up_proj.'),
    (r'\.mlp\.(fc2|w3)\.', '.mlp.down_proj.'),
    (r'\.mlp\.w1\.', '.mlp.gate_proj.'),
    (r'\.mlp\.w2\.', '.mlp.up_proj.'),
)


def dinov3_config(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """The fields of transformers' configuration that tensors tell.

    Raises:
        ValueError: They are not of DINOv3's release.
    """
    gated = 'blocks.0.mlp.w1.weight' in state
    try:
        periods, patches = state[PERIODS], state['patch_embed.proj.weight']
        inner = len(state[f'blocks.0.mlp.{"w1" if gated else "fc1"}.weight'])
    except KeyError as error:
        raise ValueError(
            f"expected DINOv3's own layout, found {MARK} and no {error.args[0]}; timm's is not read"
        ) from error
    width, head = len(patches), 4 * len(periods)
    if width % head:
        raise ValueError(f'expected heads of {head} channels by {PERIODS}, found {width} in all')
    registers = state.get('storage_tokens')
    biased = {
        name: f'blocks.0.{part}.bias' in state
        for name, part in dict(
            query_bias='attn.qkv',
            value_bias='attn.qkv',
            proj_bias='attn.proj',
            mlp_bias='mlp.w1' if gated else 'mlp.fc1',
        ).items()
    }
    return dict(
        biased,
        model_type='dinov3_vit',
        hidden_size=width,
        intermediate_size=inner,
        num_hidden_layers=1 + max(int(m[1]) for m in map(BLOCK.match, state) if m),
        num_attention_heads=width // head,
        patch_size=patches.shape[-1],
        num_register_tokens=0 if registers is None else registers.shape[1],
        use_gated_mlp=gated,
        hidden_act='silu' if gated else 'gelu',
        rope_theta=base_of(periods),
    )


def base_of(periods: Tensor) -> float:
    """The number whose powers they are, by even steps from 0.

    Raises:
        ValueError: There is none.
    """
    count, periods = len(periods), periods.double()
    steps = torch.arange(count, dtype=torch.float64) / count
    base = round(float(periods[-1]) ** (1 / float(steps[-1]))) if count > 1 else 100
    wanted = base**steps
    if not torch.allclose(periods, wanted, rtol=CLOSE):
        raise ValueError(f'{PERIODS}: expected powers of one number, found {periods.tolist()}')
    return float(base)


def to_transformers_dinov3(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same weights by transformers' names; what has none keeps its own.

    Raises:
        ValueError: Keys have a bias that no mask takes away, or a mask takes others away.
    """
    found = {}
    for name, value in state.items():
        if name.startswith(TRAINING) or name.endswith('.bias_mask'):
            continue
        for pattern, replacement in RENAMES:
            name = re.sub(pattern, replacement, name)
        if '.attn.qkv.' not in name:
            found[name] = value
            continue
        stem, kind = name.split('.attn.qkv.')
        parts = dict(zip('qkv', value.chunk(3), strict=True))
        if kind == 'bias':
            block = stem.replace('model.layer', 'blocks')
            if not has_no_key_bias(value, state.get(f'{block}.attn.qkv.bias_mask')):
                raise ValueError(
                    f'{block}.attn.qkv.bias: expected one of queries and values alone, found one '
                    'of keys, or a mask of others'
                )
            del parts['k']
        for part, third in parts.items():
            found[f'{stem}.attention.{part}_proj.{kind}'] = third
    tokens = found.get('embeddings.mask_token')
    if tokens is not None:
        found['embeddings.mask_token'] = tokens.reshape(1, 1, -1)
    width = len(state['patch_embed.proj.weight'])
    found.setdefault('embeddings.register_tokens', torch.zeros(1, 0, width))
    return found


def has_no_key_bias(bias: Tensor, mask: Tensor | None) -> bool:
    """Whether queries and values have a bias (3 C,) and keys none that counts."""
    if mask is None:
        return not bias.chunk(3)[1].any()
    expected = torch.ones(len(bias))
    expected.chunk(3)[1].zero_()
    return torch.equal(mask.float(), expected)

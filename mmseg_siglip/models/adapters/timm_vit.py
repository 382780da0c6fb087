"""Plain ViTs in the layout that timm, DINO, DINOv2 and MAE are published in, for transformers.

Their blocks are ``blocks.N.attn.qkv`` and so on, with queries, keys and values in one matrix.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import isqrt
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

MARK = 'blocks.0.attn.qkv.weight'
HEAD_WIDTH = 64
"""Channels of a head in every ViT that is published so; no tensor tells them."""
REGISTERS = ('register_tokens', 'reg_token')
EMBEDDINGS = {
    'cls_token': 'embeddings.cls_token',
    'pos_embed': 'embeddings.position_embeddings',
    'mask_token': 'embeddings.mask_token',
    'register_tokens': 'embeddings.register_tokens',
    'reg_token': 'embeddings.register_tokens',
    'patch_embed.proj.weight': 'embeddings.patch_embeddings.projection.weight',
    'patch_embed.proj.bias': 'embeddings.patch_embeddings.projection.bias',
    'norm.weight': 'layernorm.weight',
    'norm.bias': 'layernorm.bias',
}
VIT = dict(
    layers='layers',
    qkv=('attention.q_proj', 'attention.k_proj', 'attention.v_proj'),
    parts={
        'attn.proj': 'attention.o_proj',
        'norm1': 'layernorm_before',
        'norm2': 'layernorm_after',
        'mlp.fc1': 'mlp.fc1',
        'mlp.fc2': 'mlp.fc2',
    },
)
DINOV2 = dict(
    layers='encoder.layer',
    qkv=tuple(f'attention.attention.{name}' for name in ('query', 'key', 'value')),
    parts={
        'attn.proj': 'attention.output.dense',
        'norm1': 'norm1',
        'norm2': 'norm2',
        'mlp.fc1': 'mlp.fc1',
        'mlp.fc2': 'mlp.fc2',
        'mlp.w12': 'mlp.weights_in',
        'mlp.w3': 'mlp.weights_out',
        'ls1': 'layer_scale1',
        'ls2': 'layer_scale2',
    },
)
DPT = dict(
    layers='encoder.layer',
    qkv=DINOV2['qkv'],
    parts={
        'attn.proj': 'attention.output.dense',
        'norm1': 'layernorm_before',
        'norm2': 'layernorm_after',
        'mlp.fc1': 'intermediate.dense',
        'mlp.fc2': 'output.dense',
    },
)
NAMES = dict(vit=VIT, dinov2=DINOV2, dinov2_with_registers=DINOV2, dpt=DPT)
BLOCK = re.compile(r'blocks\.(\d+)\.(.+)\.(weight|bias|gamma)')


def vit_config(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """The fields of transformers' configuration that shapes tell, and the published head width.

    Raises:
        ValueError: It is no ViT with square patches and a square grid of positions.
    """
    try:
        patches, positions = state['patch_embed.proj.weight'], state['pos_embed']
        hidden = state['blocks.0.norm2.weight'].shape[0]
    except KeyError as error:
        raise ValueError(f'expected a ViT of {MARK}, found no {error.args[0]}') from error
    width, _, patch, across = patches.shape
    side = isqrt(positions.shape[1])
    if patch != across or side**2 + (side**2 != positions.shape[1]) != positions.shape[1]:
        raise ValueError(
            f'expected square patches and a square grid, found patches {tuple(patches.shape)} and '
            f'{positions.shape[1]} positions'
        )
    if hidden != width:
        raise ValueError(f'expected blocks as wide as patches, {width}, found {hidden}')
    fields = dict(
        hidden_size=width,
        num_hidden_layers=1 + max(int(m[1]) for m in map(BLOCK.match, state) if m),
        num_attention_heads=max(1, width // HEAD_WIDTH),
        patch_size=patch,
        image_size=side * patch,
        layer_norm_eps=1e-6,
    )
    if 'blocks.0.mlp.w12.weight' in state:
        return dict(fields, use_swiglu_ffn=True)
    return dict(fields, intermediate_size=len(state['blocks.0.mlp.fc1.weight']))


def dinov2_config(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """The same for DINOv2, with or without registers."""
    fields = vit_config(state)
    inner = fields.pop('intermediate_size', None)
    if inner is not None:
        fields['mlp_ratio'] = inner // fields['hidden_size']
    registers = next((state[name] for name in REGISTERS if name in state), None)
    if registers is None:
        return dict(fields, model_type='dinov2')
    count = registers.shape[1]
    return dict(fields, model_type='dinov2_with_registers', num_register_tokens=count)


def to_transformers_vit(state: Mapping[str, Tensor], model_type: str) -> dict[str, Tensor]:
    """The same weights by transformers' names of a model; what has none keeps its own.

    Where a position of CLS or a mask token is left out, as timm does where CLS already holds the
    one and nothing reads the other, they are zeros.
    """
    names, found = NAMES[model_type], {}
    for name, value in state.items():
        match = BLOCK.fullmatch(name)
        if match is None:
            found[EMBEDDINGS.get(name, name)] = value
            continue
        number, part, kind = match.groups()
        stem = f'{names["layers"]}.{number}'
        if part == 'attn.qkv':
            for own, third in zip(names['qkv'], value.chunk(3), strict=True):
                found[f'{stem}.{own}.{kind}'] = third
        else:
            kind = 'lambda1' if kind == 'gamma' else kind
            found[f'{stem}.{names["parts"].get(part, part)}.{kind}'] = value
    positions = found['embeddings.position_embeddings']
    if isqrt(positions.shape[1]) ** 2 == positions.shape[1]:
        found['embeddings.position_embeddings'] = pad(positions, (0, 0, 1, 0))
    if names is DINOV2:
        blank = torch.zeros(1, positions.shape[-1])
        found.setdefault('embeddings.mask_token', blank)
    return found

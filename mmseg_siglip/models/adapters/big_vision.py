"""SigLIP and SigLIP 2 as big_vision publishes them, as transformers' models.

Names and shapes are those of the published ``.npz`` files, layers one by one or stacked; not tried
on the released files.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

import torch
from torch import Tensor
from transformers import Siglip2Config, SiglipConfig

MARK = 'params/img/MAPHead_0/probe'
STACKED = '/encoderblock/'
QKV = ('query', 'key', 'value')
POOL = 'params/img/MAPHead_0/MultiHeadDotProductAttention_0'
RENAMES = (
    (r'^params/img/embedding/', 'vision_model.embeddings.patch_embedding.'),
    (r'^params/img/pos_embedding$', 'vision_model.embeddings.position_embedding.weight'),
    (r'^params/img/Transformer/encoderblock_(\d+)/', r'vision_model.encoder.layers.\1.'),
    (r'^params/img/Transformer/encoder_norm/', 'vision_model.post_layernorm.'),
    (r'^params/img/MAPHead_0/LayerNorm_0/', 'vision_model.head.layernorm.'),
    (rf'^{POOL}/', 'vision_model.head.attention.'),
    (r'^params/img/MAPHead_0/', 'vision_model.head.'),
    (r'^params/txt/Embed_0/embedding$', 'text_model.embeddings.token_embedding.weight'),
    (r'^params/txt/pos_embedding$', 'text_model.embeddings.position_embedding.weight'),
    (r'^params/txt/Encoder_0/encoderblock_(\d+)/', r'text_model.encoder.layers.\1.'),
    (r'^params/txt/Encoder_0/encoder_norm/', 'text_model.final_layer_norm.'),
    (r'^params/txt/head/', 'text_model.head.'),
    (r'^params/t$', 'logit_scale'),
    (r'^params/b$', 'logit_bias'),
    (r'\.LayerNorm_0/', '.layer_norm1.'),
    (r'\.LayerNorm_1/', '.layer_norm2.'),
    (r'\.MlpBlock_0/Dense_0/', '.mlp.fc1.'),
    (r'\.MlpBlock_0/Dense_1/', '.mlp.fc2.'),
    (r'\.MultiHeadDotProductAttention_0/', '.self_attn.'),
    (r'\.(query|key|value|out)/', lambda match: f'.{match[1].replace("out", "o")[0]}_proj.'),
    (r'\.o_proj\.', '.out_proj.'),
    (r'\.(?:kernel|scale)$', '.weight'),
)


def unstacked(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of a training state, those of stacked layers one by one."""
    found = {}
    for name, value in state.items():
        if STACKED in name:
            for number, part in enumerate(value):
                found[name.replace(STACKED, f'/encoderblock_{number}/')] = part
        else:
            found[name] = value
    return {name: value for name, value in found.items() if name.startswith('params/')}


def big_vision_config(state: Mapping[str, Tensor], stem: str) -> SiglipConfig | Siglip2Config:
    """The configuration that the shapes of `unstacked` weights tell; heads are an axis there.

    A patch embedding of two axes is NaFlex's.

    Args:
        state: The weights.
        stem: The file's name, whose numbers tell an image size that is no multiple of the patch,
            such as 384 of 27 cells of 14 pixels.
    """
    kernel = state['params/img/embedding/kernel']
    naflex, width = kernel.ndim == 2, kernel.shape[-1]
    patch = math.isqrt(kernel.shape[0] // 3) if naflex else kernel.shape[0]
    cells = state['params/img/pos_embedding'].numel() // width
    side, numbers = math.isqrt(cells), map(int, re.findall(r'\d+', stem))
    image_size = next((number for number in numbers if number // patch == side), side * patch)
    vision = dict(
        _tower(state, 'params/img/Transformer'),
        hidden_size=width,
        patch_size=patch,
        **(dict(num_patches=cells) if naflex else dict(image_size=image_size)),
    )
    vocabulary, width = state['params/txt/Embed_0/embedding'].shape
    text = dict(
        _tower(state, 'params/txt/Encoder_0'),
        hidden_size=width,
        vocab_size=vocabulary,
        max_position_embeddings=state['params/txt/pos_embedding'].numel() // width,
        projection_size=state['params/txt/head/kernel'].shape[1],
    )
    kind = Siglip2Config if naflex else SiglipConfig
    return kind(vision_config=vision, text_config=text)


def _tower(state: Mapping[str, Tensor], where: str) -> dict[str, int]:
    first = f'{where}/encoderblock_0'
    found = (re.match(rf'{where}/encoderblock_(\d+)/', name) for name in state)
    layers = {match[1] for match in found if match}
    return dict(
        num_hidden_layers=len(layers),
        num_attention_heads=state[f'{first}/MultiHeadDotProductAttention_0/query/bias'].shape[0],
        intermediate_size=state[f'{first}/MlpBlock_0/Dense_0/bias'].shape[0],
    )


def from_big_vision(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`unstacked` weights by the names and in the shapes of transformers' model, float32; names
    that no SigLIP has stay as they are."""
    state, result = {name: value.float() for name, value in state.items()}, {}
    for new, old in (('weight', 'kernel'), ('bias', 'bias')):
        parts = [state.pop(f'{POOL}/{part}/{old}') for part in QKV]
        flat = [part.flatten(-2).movedim(-1, 0) for part in parts]
        result[f'vision_model.head.attention.in_proj_{new}'] = torch.cat(flat)
    for name, value in state.items():
        renamed = name
        for pattern, replacement in RENAMES:
            renamed = re.sub(pattern, replacement, renamed)
        result[renamed] = _shaped(name, value)
    return result


def _shaped(name: str, value: Tensor) -> Tensor:
    """JAX's kernels as PyTorch has them: heads joined, outputs before inputs."""
    if name.endswith('pos_embedding'):
        return value.flatten(0, -2)
    if name in ('params/t', 'params/b'):
        return value.reshape(1)
    if name.endswith('/bias'):
        return value.flatten()
    if not name.endswith('/kernel'):
        return value
    if value.ndim == 4:
        return value.permute(3, 2, 0, 1)
    if value.ndim == 3:
        value = value.flatten(0, 1) if '/out/' in name else value.flatten(1, 2)
    return value.T

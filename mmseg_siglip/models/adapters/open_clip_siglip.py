"""SigLIP of open_clip, its image tower timm's, as transformers' `SiglipModel`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import torch
from timm.layers import AttentionPoolLatent
from timm.models import VisionTransformer
from torch import Tensor, nn
from transformers import SiglipConfig
from transformers.activations import ACT2FN

from mmseg_siglip.weights.open_clip_checkpoint import build_timm_clip

PROBE = 'visual.trunk.attn_pool.latent'
POSITION = 'vision_model.embeddings.position_embedding.weight'
ACTIVATIONS = ('gelu', 'gelu_pytorch_tanh')
LOGITS = ('logit_scale', 'logit_bias')
QKV = re.compile(r'^(.*\.attn)\.(?:qkv\.|in_proj_)(weight|bias)$')
RENAMES = (
    (r'^visual\.trunk\.patch_embed\.proj\.', 'vision_model.embeddings.patch_embedding.'),
    (r'^visual\.trunk\.pos_embed$', POSITION),
    (r'^visual\.trunk\.blocks\.', 'vision_model.encoder.layers.'),
    (r'^visual\.trunk\.norm\.', 'vision_model.post_layernorm.'),
    (r'^visual\.trunk\.attn_pool\.latent$', 'vision_model.head.probe'),
    (r'^visual\.trunk\.attn_pool\.proj\.', 'vision_model.head.attention.out_proj.'),
    (r'^visual\.trunk\.attn_pool\.norm\.', 'vision_model.head.layernorm.'),
    (r'^visual\.trunk\.attn_pool\.mlp\.', 'vision_model.head.mlp.'),
    (r'^text\.token_embedding\.', 'text_model.embeddings.token_embedding.'),
    (r'^text\.positional_embedding$', 'text_model.embeddings.position_embedding.weight'),
    (r'^text\.transformer\.resblocks\.', 'text_model.encoder.layers.'),
    (r'^text\.ln_final\.', 'text_model.final_layer_norm.'),
    (r'^text\.text_projection\.', 'text_model.head.'),
    (r'\.(?:norm|ln_)([12])\.', r'.layer_norm\1.'),
    (r'\.attn\.proj\.', '.attn.out_proj.'),
    (r'\.attn\.', '.self_attn.'),
    (r'\.mlp\.c_fc\.', '.mlp.fc1.'),
    (r'\.mlp\.c_proj\.', '.mlp.fc2.'),
)


def siglip_config(config: Mapping, source: str) -> SiglipConfig:
    """The transformers configuration of an open_clip model, `source` its name in messages.

    It is read off the modules that open_clip would build. What leaves no trace in the weights, such
    as the activation, must be what transformers' modules can do; whether the weights are those of a
    SigLIP shows when they are loaded.

    Raises:
        ValueError: It is no SigLIP.
    """
    with torch.device('meta'):
        model = build_timm_clip(config, source)
    trunk, text = (None, None) if model is None else (model.visual.trunk, model.text)
    if (
        not isinstance(trunk, VisionTransformer)
        or not isinstance(trunk.attn_pool, AttentionPoolLatent)
        or text.pool_type != 'last'
        or text.attn_mask is not None
    ):
        raise ValueError(
            f'{source}: expected a SigLIP of open_clip, with an attention pooling head behind '
            "timm's ViT and a text tower that is not causal, found another model"
        )
    blocks, layers, pool = trunk.blocks, text.transformer.resblocks, trunk.attn_pool
    vision = dict(
        _tower(source, 'vision', trunk, [block.mlp.act for block in blocks] + [pool.mlp.act]),
        hidden_size=trunk.embed_dim,
        intermediate_size=blocks[0].mlp.fc1.out_features,
        num_hidden_layers=len(blocks),
        num_attention_heads=_same(
            source,
            'heads of the vision tower',
            [b.attn.num_heads for b in blocks] + [pool.num_heads],
        ),
        image_size=trunk.patch_embed.img_size[0],
        patch_size=trunk.patch_embed.patch_size[0],
    )
    words = dict(
        _tower(source, 'text', text, [layer.mlp.gelu for layer in layers]),
        hidden_size=text.width,
        intermediate_size=layers[0].mlp.c_fc.out_features,
        num_hidden_layers=len(layers),
        num_attention_heads=text.heads,
        vocab_size=text.vocab_size,
        max_position_embeddings=text.context_length,
        projection_size=text.output_dim,
    )
    return SiglipConfig(vision_config=vision, text_config=words)


def to_siglip(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename an open_clip SigLIP's state dict to `SiglipModel`'s names; these stay as they are."""
    state, result = dict(state), {}
    for kind in ('weight', 'bias'):
        parts = [f'visual.trunk.attn_pool.{part}.{kind}' for part in ('q', 'kv')]
        if state.keys() >= set(parts):
            fused = torch.cat([state.pop(part) for part in parts])
            result[f'vision_model.head.attention.in_proj_{kind}'] = fused
    for name, value in state.items():
        match = QKV.match(name)
        names = [f'{match[1]}.{q}_proj.{match[2]}' for q in 'qkv'] if match else [name]
        for new, part in zip(names, value.chunk(3) if match else [value], strict=True):
            for pattern, replacement in RENAMES:
                new = re.sub(pattern, replacement, new)
            result[new] = part
    if POSITION in result:
        result[POSITION] = result[POSITION].flatten(0, -2)
    return {n: v.reshape(1) if n in LOGITS else v for n, v in result.items()}


def _tower(source: str, name: str, tower: nn.Module, activations: Iterable[nn.Module]) -> dict:
    norms = [part.eps for part in tower.modules() if isinstance(part, nn.LayerNorm)]
    return dict(
        hidden_act=_same(
            source, f'activation of the {name} tower', map(activation_of, activations)
        ),
        layer_norm_eps=_same(source, f'epsilon of the {name} tower', norms),
    )


def _same(source: str, what: str, values: Iterable) -> object:
    found = set(values)
    if len(found) > 1 or None in found:
        raise ValueError(
            f'{source}: expected one {what} that transformers knows, '
            f'found {", ".join(sorted(map(str, found)))}'
        )
    return found.pop()


def activation_of(module: nn.Module) -> str | None:
    """transformers' name of an activation, by what it does; None if it has none here."""
    x = torch.linspace(-4, 4, 65)
    for name in ACTIVATIONS:
        if torch.equal(module(x), ACT2FN[name](x)):
            return name
    return None

"""CLIP checkpoints of transformers (`CLIPModel`) as open_clip models."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor
from transformers import CLIPConfig

RENAMES = (
    (r'^vision_model\.embeddings\.class_embedding$', 'visual.class_embedding'),
    (r'^vision_model\.embeddings\.patch_embedding\.', 'visual.conv1.'),
    (r'^vision_model\.embeddings\.position_embedding\.weight$', 'visual.positional_embedding'),
    (r'^vision_model\.pre_layrnorm\.', 'visual.ln_pre.'),
    (r'^vision_model\.post_layernorm\.', 'visual.ln_post.'),
    (r'^vision_model\.encoder\.layers\.', 'visual.transformer.resblocks.'),
    (r'^visual_projection\.weight$', 'visual.proj'),
    (r'^text_model\.embeddings\.token_embedding\.', 'token_embedding.'),
    (r'^text_model\.embeddings\.position_embedding\.weight$', 'positional_embedding'),
    (r'^text_model\.final_layer_norm\.', 'ln_final.'),
    (r'^text_model\.encoder\.layers\.', 'transformer.resblocks.'),
    (r'^text_projection\.weight$', 'text_projection'),
    (r'\.self_attn\.out_proj\.', '.attn.out_proj.'),
    (r'\.layer_norm([12])\.', r'.ln_\1.'),
    (r'\.mlp\.fc1\.', '.mlp.c_fc.'),
    (r'\.mlp\.fc2\.', '.mlp.c_proj.'),
)
TRANSPOSED = ('visual.proj', 'text_projection')
QKV = re.compile(r'^(.*)\.self_attn\.([qkv])_proj\.(weight|bias)$')


def open_clip_config(config: CLIPConfig) -> dict:
    """The open_clip model configuration of a transformers CLIP.

    Raises:
        ValueError: An activation or layer-norm constant that open_clip's CLIP cannot express.
    """
    vision, text = config.vision_config, config.text_config
    activations = {vision.hidden_act, text.hidden_act}
    if activations not in ({'quick_gelu'}, {'gelu'}):
        raise ValueError(f'expected hidden_act quick_gelu or gelu, found {sorted(activations)}')
    epsilons = {vision.layer_norm_eps, text.layer_norm_eps}
    if epsilons != {1e-5}:
        raise ValueError(f'expected layer_norm_eps 1e-5, found {sorted(epsilons)}')
    return dict(
        embed_dim=config.projection_dim,
        quick_gelu=activations == {'quick_gelu'},
        vision_cfg=dict(
            layers=vision.num_hidden_layers,
            width=vision.hidden_size,
            head_width=vision.hidden_size // vision.num_attention_heads,
            mlp_ratio=vision.intermediate_size / vision.hidden_size,
            patch_size=vision.patch_size,
            image_size=vision.image_size,
        ),
        text_cfg=dict(
            context_length=text.max_position_embeddings,
            vocab_size=text.vocab_size,
            width=text.hidden_size,
            heads=text.num_attention_heads,
            layers=text.num_hidden_layers,
            mlp_ratio=text.intermediate_size / text.hidden_size,
        ),
    )


def to_open_clip(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename a `CLIPModel` state dict to open_clip's names and fuse q, k and v."""
    renamed, fused = {}, {}
    for name, value in state.items():
        if name.endswith('.position_ids'):
            continue
        match = QKV.match(name)
        if match:
            layer, which, kind = match.groups()
            fused.setdefault(f'{layer}.attn.in_proj_{kind}', {})[which] = value
        else:
            renamed[name] = value
    for name, parts in fused.items():
        renamed[name] = torch.cat([parts[which] for which in 'qkv'])
    result = {}
    for name, value in renamed.items():
        for pattern, replacement in RENAMES:
            name = re.sub(pattern, replacement, name)
        result[name] = value.T if name in TRANSPOSED else value
    return result

"""Depth Anything's and DPT's own releases, renamed for transformers' models.

Depth Anything, V1 and V2: ``pretrained.*`` is DINOv2, ``depth_head.*`` the decoder. DPT of MiDaS:
``pretrained.model.*`` is timm's ViT or BEiT, ``pretrained.act_postprocess*`` and ``scratch.*`` the
decoder. Names as published; not tried on the released files, which were not at hand.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from mmseg_siglip.models.adapters.timm_vit import to_transformers_vit

Renaming = tuple[tuple[str, object], ...]

_STAGES = 4
_SCRATCH: Renaming = (
    (r'scratch\.layer(\d)_rn\.', lambda m: f'neck.convs.{int(m[1]) - 1}.'),
    (
        r'scratch\.refinenet(\d)\.out_conv\.',
        lambda m: f'neck.fusion_stage.layers.{_STAGES - int(m[1])}.projection.',
    ),
    (
        r'scratch\.refinenet(\d)\.resConfUnit(\d)\.conv(\d)\.',
        lambda m: (
            f'neck.fusion_stage.layers.{_STAGES - int(m[1])}.'
            f'residual_layer{m[2]}.convolution{m[3]}.'
        ),
    ),
)
DEPTH_ANYTHING: Renaming = (
    (r'depth_head\.projects\.(\d)\.', r'neck.reassemble_stage.layers.\1.projection.'),
    (r'depth_head\.resize_layers\.(\d)\.', r'neck.reassemble_stage.layers.\1.resize.'),
    (r'depth_head\.readout_projects\.', r'neck.reassemble_stage.readout_projects.'),
    *((rf'depth_head\.{pattern}', name) for pattern, name in _SCRATCH),
    (r'depth_head\.scratch\.output_conv1\.', r'head.conv1.'),
    (r'depth_head\.scratch\.output_conv2\.0\.', r'head.conv2.'),
    (r'depth_head\.scratch\.output_conv2\.2\.', r'head.conv3.'),
)
_READ = 'neck.reassemble_stage'
DPT: Renaming = (
    (
        r'pretrained\.act_postprocess(\d)\.0\.project\.0\.',
        lambda m: f'{_READ}.readout_projects.{int(m[1]) - 1}.0.',
    ),
    (
        r'pretrained\.act_postprocess(\d)\.3\.',
        lambda m: f'{_READ}.layers.{int(m[1]) - 1}.projection.',
    ),
    (
        r'pretrained\.act_postprocess(\d)\.4\.',
        lambda m: f'{_READ}.layers.{int(m[1]) - 1}.resize.',
    ),
    *_SCRATCH,
    (r'scratch\.output_conv\.', r'head.head.'),
)
# Classifiers of the encoders' pretraining, and an index that follows from the image size.
_UNREAD = re.compile(r'pretrained\.model\.(head|fc_norm|norm_pre)\.|.*\.relative_position_index$')
_BEIT_BLOCK = re.compile(r'blocks\.(\d+)\.(.+)')
_BEIT_PARTS = {
    'gamma_1': 'lambda_1',
    'gamma_2': 'lambda_2',
    'attn.q_bias': 'attention.attention.query.bias',
    'attn.v_bias': 'attention.attention.value.bias',
    'attn.relative_position_bias_table': (
        'attention.attention.relative_position_bias.relative_position_bias_table'
    ),
    **{
        f'{old}.{kind}': f'{new}.{kind}'
        for old, new in {
            'attn.proj': 'attention.output.dense',
            'norm1': 'layernorm_before',
            'norm2': 'layernorm_after',
            'mlp.fc1': 'intermediate.dense',
            'mlp.fc2': 'output.dense',
        }.items()
        for kind in ('weight', 'bias')
    },
}
_BEIT_EMBEDDINGS = {
    'cls_token': 'embeddings.cls_token',
    'patch_embed.proj.weight': 'embeddings.patch_embeddings.projection.weight',
    'patch_embed.proj.bias': 'embeddings.patch_embeddings.projection.bias',
}


def rename(name: str, renaming: Renaming) -> str:
    """The name that the first pattern which fits its beginning makes of it, or itself."""
    for pattern, replacement in renaming:
        new, count = re.subn(f'^{pattern}', replacement, name)
        if count:
            return new
    return name


def split_release(
    state: Mapping[str, Tensor], encoder: str
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The tensors whose names begin with `encoder`, without it, and the rest."""
    inside = {
        name.removeprefix(encoder): value
        for name, value in state.items()
        if name.startswith(encoder)
    }
    return inside, {name: value for name, value in state.items() if not name.startswith(encoder)}


def to_depth_anything(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of a release by the names of ``DepthAnythingForDepthEstimation``; what has none
    there keeps its own."""
    vision, decoder = split_release(state, 'pretrained.')
    found = to_transformers_vit(vision, 'dinov2')
    renamed = {f'backbone.{name}': value for name, value in found.items()}
    return renamed | {rename(name, DEPTH_ANYTHING): value for name, value in decoder.items()}


def to_dpt(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of a release by the names of ``DPTForDepthEstimation``, on ViT or BEiT; what has
    none there keeps its own."""
    state = {name: value for name, value in state.items() if not _UNREAD.match(name)}
    vision, decoder = split_release(state, 'pretrained.model.')
    if 'pos_embed' in vision:
        part, found = 'dpt', to_transformers_vit(vision, 'dpt')
    else:
        part, found = 'backbone', _to_beit(vision)
    renamed = {f'{part}.{name}': value for name, value in found.items()}
    return renamed | {rename(name, DPT): value for name, value in decoder.items()}


def _to_beit(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    found = {}
    for name, value in state.items():
        match = _BEIT_BLOCK.fullmatch(name)
        if match is None:
            found[_BEIT_EMBEDDINGS.get(name, name)] = value
            continue
        stem, part = f'encoder.layer.{match[1]}', match[2]
        if part == 'attn.qkv.weight':
            for own, third in zip(('query', 'key', 'value'), value.chunk(3), strict=True):
                found[f'{stem}.attention.attention.{own}.weight'] = third
        else:
            found[f'{stem}.{_BEIT_PARTS.get(part, part)}'] = value
    return found

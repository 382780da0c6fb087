"""Checkpoints of the package segment-anything (`sam_vit_{b,l,h}`) as transformers' SamModel."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor
from transformers import SamConfig

MARK = 'image_encoder.patch_embed.proj.weight'
POSITION = 'shared_image_embedding.positional_embedding'
TIED_POSITION = 'prompt_encoder.shared_embedding.positional_embedding'
RENAMES = (
    (r'^image_encoder\.patch_embed\.proj\.', 'vision_encoder.patch_embed.projection.'),
    (r'^image_encoder\.blocks\.(\d+)\.norm([12])\.', r'vision_encoder.layers.\1.layer_norm\2.'),
    (r'^image_encoder\.blocks\.', 'vision_encoder.layers.'),
    (r'^image_encoder\.neck\.0\.', 'vision_encoder.neck.conv1.'),
    (r'^image_encoder\.neck\.1\.', 'vision_encoder.neck.layer_norm1.'),
    (r'^image_encoder\.neck\.2\.', 'vision_encoder.neck.conv2.'),
    (r'^image_encoder\.neck\.3\.', 'vision_encoder.neck.layer_norm2.'),
    (r'^image_encoder\.', 'vision_encoder.'),
    (r'^prompt_encoder\.pe_layer\.positional_encoding_gaussian_matrix$', POSITION),
    (r'^prompt_encoder\.point_embeddings\.', 'prompt_encoder.point_embed.'),
    (r'^prompt_encoder\.mask_downscaling\.0\.', 'prompt_encoder.mask_embed.conv1.'),
    (r'^prompt_encoder\.mask_downscaling\.1\.', 'prompt_encoder.mask_embed.layer_norm1.'),
    (r'^prompt_encoder\.mask_downscaling\.3\.', 'prompt_encoder.mask_embed.conv2.'),
    (r'^prompt_encoder\.mask_downscaling\.4\.', 'prompt_encoder.mask_embed.layer_norm2.'),
    (r'^prompt_encoder\.mask_downscaling\.6\.', 'prompt_encoder.mask_embed.conv3.'),
    (
        r'^mask_decoder\.transformer\.norm_final_attn\.',
        'mask_decoder.transformer.layer_norm_final_attn.',
    ),
    (r'^(mask_decoder\.transformer\.layers\.\d+)\.norm(\d)\.', r'\1.layer_norm\2.'),
    (r'^mask_decoder\.output_upscaling\.0\.', 'mask_decoder.upscale_conv1.'),
    (r'^mask_decoder\.output_upscaling\.1\.', 'mask_decoder.upscale_layer_norm.'),
    (r'^mask_decoder\.output_upscaling\.3\.', 'mask_decoder.upscale_conv2.'),
)
PERCEPTRON = re.compile(
    r'^(mask_decoder\.(?:iou_prediction_head|output_hypernetworks_mlps\.\d+))'
    r'\.layers\.(\d+)\.(weight|bias)$'
)
DECODER_HEADS = 8


def sam_config(state: Mapping[str, Tensor]) -> SamConfig:
    """The transformers configuration of a segment-anything state dict, out of its shapes.

    The decoder's number of heads leaves no trace in them; it is the published 8.

    Raises:
        ValueError: A tensor that the sizes are read from is missing.
    """
    try:
        return _config(state)
    except KeyError as error:
        raise ValueError(
            f'expected a segment-anything state dict, found none of the name {error.args[0]}'
        ) from error


def _config(state: Mapping[str, Tensor]) -> SamConfig:
    width, _, patch, _ = state[MARK].shape
    depth = count_numbers(state, r'image_encoder\.blocks\.(\d+)\.')
    tables = [state[f'image_encoder.blocks.{i}.attn.rel_pos_h'] for i in range(depth)]
    grid = state['image_encoder.pos_embed'].shape[1]
    windows = {len(table) // 2 + 1 for table in tables} - {grid}
    if len(windows) > 1:
        raise ValueError(f'expected blocks of one window size, found {sorted(windows)}')
    channels = state['prompt_encoder.no_mask_embed.weight'].shape[1]
    head = 'mask_decoder.iou_prediction_head.layers'
    first = 'mask_decoder.transformer.layers.0'
    size = dict(image_size=grid * patch, patch_size=patch)
    return SamConfig(
        vision_config=dict(
            size,
            hidden_size=width,
            output_channels=state['image_encoder.neck.0.weight'].shape[0],
            num_hidden_layers=depth,
            num_attention_heads=width // tables[0].shape[1],
            qkv_bias='image_encoder.blocks.0.attn.qkv.bias' in state,
            mlp_dim=state['image_encoder.blocks.0.mlp.lin1.weight'].shape[0],
            window_size=windows.pop() if windows else grid,
            global_attn_indexes=[i for i, t in enumerate(tables) if len(t) // 2 + 1 == grid],
            num_pos_feats=channels // 2,
        ),
        prompt_encoder_config=dict(
            size,
            hidden_size=channels,
            mask_input_channels=state['prompt_encoder.mask_downscaling.3.weight'].shape[0],
            num_point_embeddings=count_numbers(state, r'prompt_encoder\.point_embeddings\.(\d+)\.'),
        ),
        mask_decoder_config=dict(
            hidden_size=channels,
            mlp_dim=state[f'{first}.mlp.lin1.weight'].shape[0],
            num_hidden_layers=count_numbers(state, r'mask_decoder\.transformer\.layers\.(\d+)\.'),
            num_attention_heads=DECODER_HEADS,
            attention_downsample_rate=channels
            // state[f'{first}.cross_attn_token_to_image.q_proj.weight'].shape[0],
            num_multimask_outputs=len(state['mask_decoder.mask_tokens.weight']) - 1,
            iou_head_depth=count_numbers(state, rf'{re.escape(head)}\.(\d+)\.'),
            iou_head_hidden_dim=state[f'{head}.0.weight'].shape[0],
            # torch's default, which segment-anything uses; transformers' own default is 1e-6.
            layer_norm_eps=1e-5,
        ),
    )


def to_transformers(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename a segment-anything state dict to `SamModel`'s names."""
    last: dict[str, int] = {}
    for name in state:
        if match := PERCEPTRON.match(name):
            last[match[1]] = max(last.get(match[1], 0), int(match[2]))
    result = {}
    for name, value in state.items():
        if match := PERCEPTRON.match(name):
            stem, index, kind = match[1], int(match[2]), match[3]
            layer = {0: 'proj_in', last[stem]: 'proj_out'}.get(index, f'layers.{index - 1}')
            name = f'{stem}.{layer}.{kind}'
        for pattern, replacement in RENAMES:
            name = re.sub(pattern, replacement, name)
        result[name] = value
    if POSITION in result:
        result[TIED_POSITION] = result[POSITION]
    return result


def count_numbers(state: Mapping[str, Tensor], pattern: str) -> int:
    """How many numbers a pattern's group has among the names; a ``KeyError`` if none."""
    found = {int(match[1]) for name in state if (match := re.match(pattern, name))}
    if not found:
        raise KeyError(pattern.replace('\\', '').replace('(d+)', 'N'))
    return len(found)

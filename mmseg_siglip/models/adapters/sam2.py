"""The image part of SAM 2, by the names of the package sam2, as transformers' `Sam2Model`.

https://github.com/facebookresearch/sam2. What it remembers of earlier frames is none of it. Names
and sizes are those that the package builds; not tried on a released file.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import Sam2Config

from mmseg_siglip.models.adapters.segment_anything import POSITION, TIED_POSITION, count_numbers

MARK = 'image_encoder.trunk.patch_embed.proj.weight'
TRUNK = 'image_encoder.trunk.'
VIDEO = (
    'maskmem_tpos_enc',
    'no_mem_pos_enc',
    'no_obj_embed_spatial',
    'no_obj_ptr',
    'memory_attention.',
    'memory_encoder.',
    'mask_downsample.',
    'obj_ptr_proj.',
    'obj_ptr_tpos_proj.',
)
"""What only videos need: names of tensors, and of modules."""
DECODER_HEADS = 8
IMAGE_SIZE = 1024


class Attention(NamedTuple):
    """How a Hiera's blocks attend, which leaves no trace in shapes.

    Attributes:
        heads: Of the first stage; each further stage has twice as many.
        windows: Sides of the windows of each stage, in tokens.
        whole: Blocks that see the whole image.
    """

    heads: int
    windows: tuple[int, ...]
    whole: tuple[int, ...]


ATTENTION = {
    (1, 2, 7, 2): Attention(1, (8, 4, 14, 7), (5, 7, 9)),
    (1, 2, 11, 2): Attention(1, (8, 4, 14, 7), (7, 10, 13)),
    (2, 3, 16, 3): Attention(2, (8, 4, 14, 7), (12, 16, 20)),
    (2, 6, 36, 4): Attention(2, (8, 4, 16, 8), (23, 33, 43)),
}
"""By blocks a stage: tiny, small, base_plus, large."""
RENAMES = (
    (
        r'^image_encoder\.trunk\.patch_embed\.proj\.',
        'vision_encoder.backbone.patch_embed.projection.',
    ),
    (r'^image_encoder\.trunk\.', 'vision_encoder.backbone.'),
    (r'^(vision_encoder\.backbone\.blocks\.\d+)\.norm([12])\.', r'\1.layer_norm\2.'),
    (r'^image_encoder\.neck\.convs\.(\d+)\.conv\.', r'vision_encoder.neck.convs.\1.'),
    (r'^no_mem_embed$', 'no_memory_embedding'),
    (r'^sam_prompt_encoder\.pe_layer\.positional_encoding_gaussian_matrix$', POSITION),
    (r'^sam_prompt_encoder\.mask_downscaling\.0\.', 'prompt_encoder.mask_embed.conv1.'),
    (r'^sam_prompt_encoder\.mask_downscaling\.1\.', 'prompt_encoder.mask_embed.layer_norm1.'),
    (r'^sam_prompt_encoder\.mask_downscaling\.3\.', 'prompt_encoder.mask_embed.conv2.'),
    (r'^sam_prompt_encoder\.mask_downscaling\.4\.', 'prompt_encoder.mask_embed.layer_norm2.'),
    (r'^sam_prompt_encoder\.mask_downscaling\.6\.', 'prompt_encoder.mask_embed.conv3.'),
    (r'^sam_prompt_encoder\.', 'prompt_encoder.'),
    (r'^sam_mask_decoder\.output_upscaling\.0\.', 'mask_decoder.upscale_conv1.'),
    (r'^sam_mask_decoder\.output_upscaling\.1\.', 'mask_decoder.upscale_layer_norm.'),
    (r'^sam_mask_decoder\.output_upscaling\.3\.', 'mask_decoder.upscale_conv2.'),
    (r'^sam_mask_decoder\.', 'mask_decoder.'),
    (r'^(mask_decoder\.transformer)\.norm_final_attn\.', r'\1.layer_norm_final_attn.'),
    (r'^(mask_decoder\.transformer\.layers\.\d+)\.norm(\d)\.', r'\1.layer_norm\2.'),
    (r'^(mask_decoder\.transformer\..*attn\w*)\.out_proj\.', r'\1.o_proj.'),
)
PERCEPTRON = re.compile(r'^(.*(?:\.mlp|_head|_mlps\.\d+))\.layers\.(\d+)\.(.*)$')
POINT = re.compile(r'^prompt_encoder\.point_embeddings\.(\d+)\.weight$')


def image_part(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A whole model's tensors without those of `VIDEO`."""
    modules = tuple(name for name in VIDEO if name.endswith('.'))
    return {
        name: value
        for name, value in state.items()
        if name not in VIDEO and not name.startswith(modules)
    }


def sam2_config(state: Mapping[str, Tensor]) -> Sam2Config:
    """The transformers configuration of a state dict of the package sam2.

    Widths and depths come out of its shapes, the rest out of `ATTENTION`. The size of its images
    leaves no trace either; it is the published 1024.

    Raises:
        ValueError: A tensor that the sizes are read from is missing, or the stages are none of
            `ATTENTION`.
    """
    try:
        return _config(state)
    except KeyError as error:
        raise ValueError(f'expected a SAM 2, found no tensor {error.args[0]}') from error


def _config(state: Mapping[str, Tensor]) -> Sam2Config:
    blocks = count_numbers(state, r'image_encoder\.trunk\.blocks\.(\d+)\.')
    widths = Counter(len(state[f'{TRUNK}blocks.{i}.attn.proj.weight']) for i in range(blocks))
    stages, channels = tuple(widths.values()), tuple(widths)
    if stages not in ATTENTION:
        raise ValueError(
            f'expected a SAM 2 with one of {", ".join(map(str, ATTENTION))} blocks in its stages, '
            f'found {stages}'
        )
    heads, windows, whole = ATTENTION[stages]
    first = 'sam_mask_decoder.transformer.layers.0'
    head = 'sam_mask_decoder.iou_prediction_head.layers'
    width = state['sam_prompt_encoder.no_mask_embed.weight'].shape[1]
    return Sam2Config(
        vision_config=dict(
            backbone_config=dict(
                hidden_size=channels[0],
                num_attention_heads=heads,
                image_size=[IMAGE_SIZE, IMAGE_SIZE],
                blocks_per_stage=list(stages),
                embed_dim_per_stage=list(channels),
                num_attention_heads_per_stage=[heads * 2**i for i in range(len(stages))],
                window_size_per_stage=list(windows),
                global_attention_blocks=list(whole),
                window_positional_embedding_background_size=list(
                    state[f'{TRUNK}pos_embed'].shape[2:]
                ),
                mlp_ratio=len(state[f'{TRUNK}blocks.0.mlp.layers.0.weight']) / channels[0],
            ),
            backbone_channel_list=list(channels[::-1]),
            fpn_hidden_size=len(state['image_encoder.neck.convs.0.conv.weight']),
        ),
        prompt_encoder_config=dict(
            hidden_size=width,
            image_size=IMAGE_SIZE,
            mask_input_channels=len(state['sam_prompt_encoder.mask_downscaling.3.weight']),
            num_point_embeddings=count_numbers(
                state, r'sam_prompt_encoder\.point_embeddings\.(\d+)\.'
            ),
        ),
        mask_decoder_config=dict(
            hidden_size=width,
            mlp_dim=len(state[f'{first}.mlp.layers.0.weight']),
            num_hidden_layers=count_numbers(
                state, r'sam_mask_decoder\.transformer\.layers\.(\d+)\.'
            ),
            num_attention_heads=DECODER_HEADS,
            attention_downsample_rate=width
            // len(state[f'{first}.cross_attn_token_to_image.q_proj.weight']),
            num_multimask_outputs=len(state['sam_mask_decoder.mask_tokens.weight']) - 1,
            iou_head_depth=count_numbers(state, rf'{re.escape(head)}\.(\d+)\.'),
            iou_head_hidden_dim=len(state[f'{head}.0.weight']),
        ),
    )


def to_sam2(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename a state dict of the package sam2 to `Sam2Model`'s names; adapters keep their own."""
    last: dict[str, int] = {}
    for name in state:
        if match := PERCEPTRON.match(name):
            last[match[1]] = max(last.get(match[1], 0), int(match[2]))
    result, points = {}, {}
    for name, value in state.items():
        if match := PERCEPTRON.match(name):
            stem, index, rest = match[1], int(match[2]), match[3]
            layer = {0: 'proj_in', last[stem]: 'proj_out'}.get(index, f'layers.{index - 1}')
            name = f'{stem}.{layer}.{rest}'
        for pattern, replacement in RENAMES:
            name = re.sub(pattern, replacement, name)
        if match := POINT.match(name):
            points[int(match[1])] = value
        else:
            result[name] = value
    if points:
        result['prompt_encoder.point_embed.weight'] = torch.cat([points[i] for i in sorted(points)])
    if POSITION in result:
        result[TIED_POSITION] = result[POSITION]
    return result

"""The image part of SAM 2, by the names of the package sam2, as transformers' `Sam2Model`.

https://github.com/facebookresearch/sam2. What it remembers of earlier frames is none of it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from mmseg_siglip.models.adapters.segment_anything import POSITION, TIED_POSITION

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

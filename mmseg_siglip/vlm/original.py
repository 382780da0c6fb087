"""Whole checkpoints of the original LLaVA and its heirs as transformers' models.

LLaVA 1.5 and a dense MoE-LLaVA become LLaVA; with tiles, LLaVA-NeXT, or of ``anyres_max_N``
LLaVA-OneVision. Names and configurations are those that are published; they were not tried on the
released files.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from transformers import LlavaConfig, PretrainedConfig

from mmseg_siglip.models.backbones.image_size import resolve_image_size
from mmseg_siglip.models.sizes import pair
from mmseg_siglip.vlm.assemble import PretrainedVLM, add_image_token
from mmseg_siglip.vlm.build import check_encoder_type
from mmseg_siglip.vlm.checkpoints import (
    load_vision_model,
    quiet,
    read_vision_config,
)
from mmseg_siglip.vlm.llava import DepthLlavaForConditionalGeneration
from mmseg_siglip.vlm.naflex import is_naflex
from mmseg_siglip.vlm.original_config import OriginalConfig, read_original
from mmseg_siglip.vlm.original_names import (
    EMBEDDING,
    HEAD,
    TOWER,
    read_weights,
    to_transformers_names,
)
from mmseg_siglip.vlm.processing import (
    IMAGE_TOKEN,
    load_image_processor,
    make_processor,
    pad_to_square,
)
from mmseg_siglip.vlm.projectors import STOCK_LAYERS
from mmseg_siglip.vlm.strategy import check_strategy, extra_tokens, in_transformers
from mmseg_siglip.vlm.tiles import VIDEO, make_tiled_processor, tiled_config, tiled_kind
from mmseg_siglip.vlm.vision import blocks_needed, num_prefix, token_grid
from mmseg_siglip.weights.tokenizers import load_tokenizer
from mmseg_siglip.weights.transformers_model import load_model

WORDS = {'select_layer': 'mm_vision_select_layer', 'select_feature': 'mm_vision_select_feature'}


def load_original_llava(
    source: str, *, tower: str | None = None, encoder_type: str = 'auto', **options: Any
) -> PretrainedVLM:
    """The model of a checkpoint for which `is_original` holds, in float32.

    A tower in the file is used; else the weights come from where the configuration says, as its
    configuration and image processor do in any case. ``<image>`` is added to the tokenizer, with
    the mean of the other rows for its own, so that it is never the likeliest word.

    Args:
        source: Folder or Hub id.
        tower: Folder or Hub id in the place of ``mm_vision_tower``.
        encoder_type: See `build_vision_tower`.
        options: ``image_size``, ``select_layer``, ``select_feature``, see `tower_options`; they go
            before the checkpoint's.

    Raises:
        ValueError: A part is missing, or would be left out or computed in another way.
    """
    chosen = {word: options[name] for name, word in WORDS.items() if name in options}
    if tower is not None:
        chosen['mm_vision_tower'] = tower
    original = read_original(source, chosen)
    vision = read_vision_config(original.tower)
    check_encoder_type(encoder_type, vision, original.tower)
    _refuse(original, vision, source, options)
    strategy = check_strategy(original.select_feature, vision)
    size = pair(options.get('image_size') or resolve_image_size(None, vision), 'image_size')
    image_processor = load_image_processor(original.tower, vision, size=size)
    state = to_transformers_names(read_weights(source), source)

    blocks = blocks_needed(original.select_layer, vision.num_hidden_layers)
    if any(name.startswith(TOWER) for name in state):
        vision = _of_file(vision, state, blocks, source)
    else:
        model = load_vision_model(original.tower, vision)
        state |= {TOWER + name: value for name, value in model.state_dict().items()}
    with quiet():
        tokenizer = add_image_token(load_tokenizer(source))
    if _is_onevision(original):
        tokenizer.add_special_tokens(dict(additional_special_tokens=[VIDEO]))
    original.text.vocab_size = _make_room(state, original.text.vocab_size, len(tokenizer))

    layer = blocks - vision.num_hidden_layers - 1
    fields = dict(
        vision_config=vision,
        text_config=original.text,
        image_token_index=tokenizer.convert_tokens_to_ids(IMAGE_TOKEN),
        projector_hidden_act=original.projector.in_config,
        vision_feature_select_strategy=in_transformers(strategy),
        vision_feature_layer=layer,
        tie_word_embeddings=original.text.tie_word_embeddings,
        pad_token_id=tokenizer.pad_token_id,
    )
    rows, columns = token_grid(vision, size)
    if original.tiled:
        resolutions = original.resolutions(size[0])
        video = tokenizer.convert_tokens_to_ids(VIDEO) if _is_onevision(original) else None
        config = tiled_config(fields, original.aspect, resolutions, video)
        processor = make_tiled_processor(image_processor, tokenizer, config)
        kind = tiled_kind(config)
    else:
        if original.aspect == 'pad':
            image_processor = pad_to_square(image_processor)
        tokens = rows * columns + extra_tokens(strategy, vision)
        config = LlavaConfig(**fields, image_seq_length=tokens)
        processor = make_processor(image_processor, tokenizer, vision, strategy)
        kind = DepthLlavaForConditionalGeneration
    with quiet():
        model = load_model(source, config, kind=kind, state=state)
    return PretrainedVLM.of(model.eval(), processor)


def _is_onevision(original: OriginalConfig) -> bool:
    return original.aspect.startswith('anyres_max')


def _refuse(
    original: OriginalConfig, vision: PretrainedConfig, source: str, options: Mapping
) -> None:
    """What cannot be as it was trained.

    Raises:
        ValueError: The checkpoint is so.
    """
    if is_naflex(vision):
        raise ValueError(
            f'{source}: expected a tower of one resolution, as the original LLaVA has, found '
            f'{original.tower}, a NaFlex one'
        )
    width = vision.hidden_size
    if original.channels not in (None, width):
        raise ValueError(
            f'{source}: mm_hidden_size: expected {width}, the width of {original.tower}, found '
            f'{original.channels}'
        )
    if original.moe_llava and not num_prefix(vision) and original.select_feature == 'patch':
        raise ValueError(
            f"{source}: mm_vision_select_feature: MoE-LLaVA's 'patch' leaves out SigLIP's first "
            'patch, which it takes for a CLS token; to use all patches though it was trained '
            "without that one, say mm_vision_select_feature='full'"
        )
    if not original.tiled:
        return
    if original.projector.num_layers != STOCK_LAYERS:
        raise ValueError(
            f'{source}: mm_projector_type: expected mlp2x_gelu, the projector of LLaVA-NeXT in '
            f'transformers, found {original.projector.name}'
        )
    if options.get('image_size'):
        raise ValueError(
            f'{source}: image_size: expected none, its tiles have the size of the tower'
        )


def _of_file(
    vision: PretrainedConfig, state: Mapping[str, Tensor], blocks: int, source: str
) -> PretrainedConfig:
    """The configuration of a tower inside the checkpoint, which may lack what is never read: LLaVA-
    NeXT leaves out SigLIP's last block and its pooling head.

    Raises:
        ValueError: It lacks a block that is.
    """
    names = [name.removeprefix(TOWER) for name in state if name.startswith(TOWER)]
    found = {name.split('.')[2] for name in names if name.startswith('encoder.layers.')}
    if len(found) < blocks or len(found) > vision.num_hidden_layers:
        raise ValueError(
            f'{source}: expected a tower of {blocks} to {vision.num_hidden_layers} blocks, found '
            f'one of {len(found)}'
        )
    vision = copy.deepcopy(vision)
    vision.num_hidden_layers = len(found)
    if not num_prefix(vision):
        vision.vision_use_head = any(name.startswith('head.') for name in names)
    return vision


def _make_room(state: dict[str, Tensor], rows: int, wanted: int) -> int:
    """Give each token a row, the mean of all others where the checkpoint has none.

    Returns:
        Rows that there are then.
    """
    if wanted <= rows:
        return rows
    for name in (EMBEDDING, HEAD):
        weight = state.get(name)
        if weight is not None and weight.dim() == 2 and len(weight) == rows:
            mean = weight.float().mean(0, keepdim=True).to(weight.dtype)
            state[name] = torch.cat([weight, mean.expand(wanted - rows, -1)])
    return wanted

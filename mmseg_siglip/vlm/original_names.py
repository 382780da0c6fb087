"""Tensors of original LLaVA checkpoints by transformers' names.

====================================================  ==================================
original                                              becomes
====================================================  ==================================
``model.layers.``, ``.embed_tokens.``, ``.norm.``     ``model.language_model.`` before it
``lm_head.``                                          the same
``model.mm_projector.``, see `adapters`               ``model.multi_modal_projector.``
``model.vision_tower.vision_tower.`` (MoE-LLaVA:      ``model.vision_tower.``
``image_tower`` twice), if tuned or saved along
``model.image_newline``                               the same
====================================================  ==================================

Tables that are computed anew (``rotary_emb.inv_freq``, ``position_ids``) are left out.
"""

from __future__ import annotations

import re
from pathlib import Path

from torch import Tensor

from mmseg_siglip.vlm.adapters import convert
from mmseg_siglip.vlm.original_config import EXPERTS
from mmseg_siglip.weights.finite import refuse_not_finite
from mmseg_siglip.weights.shards import INDICES, NAMES, first_file, read_index, weight_files
from mmseg_siglip.weights.state import read_tensors
from mmseg_siglip.weights.transformers_model import ADAPTERS

LANGUAGE, TOWER = 'model.language_model.', 'model.vision_tower.'
PROJECTOR, NEWLINE, HEAD = 'model.multi_modal_projector.', 'model.image_newline', 'lm_head.weight'
EMBEDDING = f'{LANGUAGE}embed_tokens.weight'
_TOWER = re.compile(r'model\.(vision|image)_tower\.\1_tower\.(?:vision_model\.)?(.+)')
_LANGUAGE = re.compile(r'model\.((?:layers|embed_tokens|norm)\..+)')
_COMPUTED = re.compile(r'.+\.(?:rotary_emb\.inv_freq|embeddings\.position_ids)')
_EXPERT = re.compile(r'\.deepspeed_moe\.|\.experts\.')


def to_transformers_names(tensors: dict[str, Tensor], source: str) -> dict[str, Tensor]:
    """By transformers' names.

    Raises:
        ValueError: One is of something else, or of an expert.
    """
    state, projector = {}, {}
    for name, value in tensors.items():
        if _EXPERT.search(name):
            raise ValueError(f'{source}: {EXPERTS} (found {name})')
        if _COMPUTED.fullmatch(name):
            continue
        if match := _TOWER.fullmatch(name):
            state[TOWER + match[2]] = value
        elif match := _LANGUAGE.fullmatch(name):
            state[LANGUAGE + match[1]] = value
        elif name in (NEWLINE, HEAD):
            state[name] = value
        elif name.startswith('model.mm_projector.'):
            projector[name] = value
        else:
            raise ValueError(
                f'{source}: expected weights of a language model, a projector and a tower as '
                f'LLaVA names them, found {name}'
            )
    state |= {PROJECTOR + name: value for name, value in convert(projector, source).items()}
    return state


def read_weights(source: str) -> dict[str, Tensor]:
    """All tensors of a folder or Hub id, of one file or of the shards that an index names.

    Raises:
        ValueError: There are none; a shard is missing or lacks a tensor; a file is damaged, would
            run code, or has weights that are not finite; or they are adapters of other weights.
    """
    if Path(source, ADAPTERS).is_file():
        raise ValueError(
            f'{source}: expected whole weights, found adapters ({ADAPTERS}); merge them first'
        )
    first = first_file(source)
    if first is None:
        raise ValueError(f'{source}: expected weights (one of {", ".join(NAMES)}), found none')
    tensors: dict[str, Tensor] = {}
    for file in weight_files(source):
        found = read_tensors(file)
        refuse_not_finite(found, file)
        tensors |= found
    places = read_index(first) if first.name in INDICES else {}
    absent = [name for name in places if name not in tensors]
    if absent:
        raise ValueError(
            f'{first}: expected its tensors in the files beside it, {len(absent)} are in none of '
            f'them, first {absent[0]} of {places[absent[0]]}'
        )
    return tensors

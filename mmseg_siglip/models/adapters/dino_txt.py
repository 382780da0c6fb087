"""dino.txt's published vision head and text tower by the names of `DinoTxt`."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

PROJECTION = 'text_model.head.linear_projection.weight'
QKV = re.compile(r'(text\.transformer\.resblocks\.\d+\.attn\.in_proj)_weight')
RENAMES = (
    (r'^visual_model\.head\.', 'head.'),
    (r'^text_model\.backbone\.blocks\.', 'text.transformer.resblocks.'),
    (r'^text_model\.backbone\.', 'text.'),
    (r'^(text\..*)\.attention_norm\.', r'\1.ln_1.'),
    (r'^(text\..*)\.ffn_norm\.', r'\1.ln_2.'),
    (r'^(text\..*)\.attention\.qkv\.weight$', r'\1.attn.in_proj_weight'),
    (r'^(text\..*)\.attention\.proj\.', r'\1.attn.out_proj.'),
    (r'^(text\..*)\.feed_forward\.fc1\.', r'\1.mlp.c_fc.'),
    (r'^(text\..*)\.feed_forward\.fc2\.', r'\1.mlp.c_proj.'),
)


def to_dino_txt(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the tensors of a published file; other names stay.

    Its queries, keys and values have no bias, where open_clip's blocks have one: it is zero. Of the
    2048 channels of its words the first half pairs with the CLS token and the second with patches;
    the second is kept.
    """
    result = {}
    for name, value in state.items():
        if name == PROJECTION:
            result['text.text_projection'] = value[len(value) // 2 :].T
            continue
        for pattern, replacement in RENAMES:
            name = re.sub(pattern, replacement, name)
        result[name] = value
        if match := QKV.fullmatch(name):
            result[f'{match[1]}_bias'] = torch.zeros_like(value[:, 0])
    return result

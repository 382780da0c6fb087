"""Checkpoints of RSRefSeg 2's code as weights of a `ReferringSegmentor`.

The one place that knows their names: https://github.com/KyanChen/RSRefSeg2, whose weights are
published as ``KyanChen/RSRefSeg2`` on the Hub. They are those of its classes and configs; no
released file was at hand to try.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from mmseg_siglip.models.adapters.rsrefseg import TOWERS, renamed
from mmseg_siglip.models.adapters.sam2 import to_sam2

MARK = 'prompter.img_pe'
SAM = 'backbone.model.'
WRAPPED = f'{SAM}image_encoder.base_model.model.'
UNREAD = ('logit_scale1', 'logit_bias1', 'logit_bias2')
"""Of ``decode_head``: what no loss of its configs reads, and a bias that the softmax cancels."""

# Names of its attentions, norms and MLPs, and of the `Read` that each is a part of.
APART = tuple(
    row
    for one, other in (('1', '2'), ('2', '1'))
    for row in (
        (f'self_attn_query_query{one}', f'own.{int(one) - 1}.attention'),
        (f'norm_query{one}_1', f'own.{int(one) - 1}.norm'),
        (f'cross_attn_query_text_query{one}_text', f'words.{int(one) - 1}.attention'),
        (f'norm_query{one}_2', f'words.{int(one) - 1}.norm'),
        (f'mlp_query{one}_2', f'words.{int(one) - 1}.mlp'),
        (f'norm_query{one}_3', f'words.{int(one) - 1}.mlp_norm'),
        (f'cross_attn_query_query_query{one}_query{other}', f'other.{int(one) - 1}.attention'),
        (f'norm_query{one}_4', f'other.{int(one) - 1}.norm'),
        (f'mlp_query{one}_3', f'other.{int(one) - 1}.mlp'),
        (f'norm_query{one}_5', f'other.{int(one) - 1}.mlp_norm'),
    )
)
LOOK = (
    ('norm_text_1', 'own.norm'),
    ('cross_attn_img_text_1', 'cells.attention'),
    ('norm_img_1', 'cells.norm'),
    ('mlp_img_1', 'cells.mlp'),
    ('norm_img_2', 'cells.mlp_norm'),
)
OUTLINE = (
    ('self_attn_prompt_1', 'own.attention'),
    ('norm_prompt_1', 'own.norm'),
    ('cross_attn_prompt_text_1', 'queries.attention'),
    ('norm_prompt_2', 'queries.norm'),
    ('mlp_prompt_2', 'queries.mlp'),
    ('norm_prompt_3', 'queries.mlp_norm'),
    ('cross_attn_prompt_img_1', 'cells.attention'),
    ('norm_prompt_4', 'cells.norm'),
    ('mlp_prompt_3', 'cells.mlp'),
    ('norm_prompt_5', 'cells.mlp_norm'),
)
STAGES = (
    ('two_queries_text_attn_layers', 'apart', APART),
    ('queries1_to_img_attn_layers', 'locate', (('self_attn_text_text_1', 'own.attention'), *LOOK)),
    ('prompt_queries2_img_attn_layers', 'look', (('self_attn_text_1', 'own.attention'), *LOOK)),
    ('prompt_queries2_img_attn_layers', 'outline', OUTLINE),
)
PERCEPTRON = ((0, 0), (1, 2))
"""Linear layers of its MLPs, and where they stand among ours."""


def _prompter() -> list[tuple[str, str]]:
    own = 'decode_head.prompter.'
    renames = [
        (r'^prompter\.text_query_pe_embedding1$', f'{own}query_places.0'),
        (r'^prompter\.text_query_pe_embedding2$', f'{own}query_places.1'),
        (r'^prompter\.img_pe$', f'{own}cell_place'),
        (r'^prompter\.prompt_embedding$', f'{own}prompts'),
        (r'^prompter\.prompt_pe_embedding$', f'{own}prompt_place'),
        (r'^prompter\.dense_prompt_conv\.', f'{own}refine.'),
        (r'^decode_head\.logit_scale2$', 'decode_head.contrast.scale'),
    ]
    for theirs, ours in PERCEPTRON:
        renames.append(
            (rf'^prompter\.sparse_prompt_mlp\.layers\.{theirs}\.', f'{own}project.{ours}.')
        )
    for layers, stage, parts in STAGES:
        for name, part in parts:
            start, target = rf'^prompter\.{layers}\.(\d+)\.{name}\.', rf'{own}{stage}.\1.{part}.'
            if name.startswith('mlp'):
                for theirs, ours in PERCEPTRON:
                    renames.append((rf'{start}layers\.{theirs}\.', f'{target}{ours}.'))
            else:
                renames.append((start, target))
    return renames


RENAMES = (*TOWERS, *_prompter())


def is_rsrefseg2(state: Mapping[str, Tensor]) -> bool:
    """Whether weights are an RSRefSeg 2's."""
    return MARK in state


def from_rsrefseg2(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """An RSRefSeg 2's weights as those of the model of ``configs/refer_sam/rsrefseg2.py``.

    Adapters stay adapters: training can go on.

    Raises:
        ValueError: It holds a tensor that RSRefSeg 2 on SAM 2 has not, or lacks a part.
    """
    unread = {f'decode_head.{name}' for name in UNREAD}
    sam, others = {}, {}
    for name, value in state.items():
        if name.startswith(SAM):
            name = name.replace(WRAPPED, f'{SAM}image_encoder.').removeprefix(SAM)
            sam[name] = value
        elif name not in unread:
            others[name] = value
    kind = 'an RSRefSeg 2 on SAM 2'
    result = renamed(others, RENAMES, kind=kind)
    if not any(name.startswith('image_encoder.trunk.') for name in sam):
        first = next(iter(sam), 'none')
        raise ValueError(f'expected the weights of {kind}, found {first} of its {SAM}*')
    return result | {f'sam.model.{k}': v for k, v in to_sam2(sam).items()}

"""Decoders of transformers' ``Tipsv2Dpt`` models, renamed for `TIPSHead` and back.

In transformers' models of one output they are ``neck.*`` and ``decoder.*``, in that of all three
``depth_neck.*``, ``depth_decoder.*``, ``normals_neck.*`` and so on; in files, as published,
``depth_head.*`` and ``normals_head.*``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import count
from typing import TYPE_CHECKING

from torch import Tensor, nn

from mmseg_siglip.models.adapters.depth_release import Renaming, rename
from mmseg_siglip.weights.state import load_strict

if TYPE_CHECKING:
    from transformers import PreTrainedModel, Tipsv2DptConfig

    from mmseg_siglip.models.decode_heads.tips_head import TIPSHead

PARTS = dict(bins='depth', normals='normals')
"""Names of decoders by the outputs of `TIPSHead`."""
_PUBLISHED = (
    ('reassemble.readout_projects.{}.', 'neck.reassemble_stage.readout_projects.{}.layers.0.'),
    ('reassemble.out_projections.{}.', 'neck.reassemble_stage.layers.{}.projection.'),
    ('reassemble.resize_layers.{}.', 'neck.reassemble_stage.layers.{}.resize.'),
    ('fusion_blocks.{}.out_conv.', 'neck.fusion_stage.layers.{}.projection.'),
    (
        'fusion_blocks.{}.residual_unit.conv{}.',
        'neck.fusion_stage.layers.{}.residual_layer1.convolution{}.',
    ),
    (
        'fusion_blocks.{}.main_unit.conv{}.',
        'neck.fusion_stage.layers.{}.residual_layer2.convolution{}.',
    ),
    ('convs.', 'neck.convs.'),
    ('project.', 'decoder.project.'),
    ('depth_head.', 'decoder.head.'),
    ('normals_head.', 'decoder.head.'),
)
"""Names of files and of transformers' models; ``{}`` is a digit."""
_OURS = (
    (
        'neck.reassemble_stage.readout_projects.{}.layers.0.',
        'reassemble_blocks.readout_projects.{}.0.',
    ),
    ('neck.reassemble_stage.layers.{}.projection.', 'reassemble_blocks.projects.{}.conv.'),
    ('neck.reassemble_stage.layers.{}.resize.', 'reassemble_blocks.resize_layers.{}.'),
    ('neck.convs.{}.', 'convs.{}.conv.'),
    ('neck.fusion_stage.layers.{}.projection.', 'fusion_blocks.{}.project.conv.'),
    (
        'neck.fusion_stage.layers.{}.residual_layer{}.convolution{}.',
        'fusion_blocks.{}.res_conv_unit{}.conv{}.conv.',
    ),
    ('decoder.project.', 'project.'),
    ('decoder.head.', 'head.'),
)
"""Names of transformers' models and of `TIPSHead`."""


def renaming(pairs: Sequence[tuple[str, str]], *, back: bool = False) -> Renaming:
    """What `rename` takes, from the first names to the second, or back."""
    found = []
    for pair in pairs:
        old, new = reversed(pair) if back else pair
        digits = count(1)
        found.append(
            (
                re.escape(old).replace(r'\{\}', r'(\d)'),
                re.sub('{}', lambda _, digits=digits: rf'\{next(digits)}', new),
            )
        )
    return tuple(found)


_NECK = renaming(_PUBLISHED)
_THERE = renaming((*_OURS, ('decoder.', '')))  # what else it has is too much for a strict head
_BACK = renaming(_OURS, back=True)


def from_tips_dpt(state: Mapping[str, Tensor], part: str) -> dict[str, Tensor]:
    """A decoder's weights under the names of `TIPSHead`; all others are left out.

    Args:
        state: Of a model or of a file.
        part: ``depth`` or ``normals``; of a model of one output, that output's.

    Raises:
        ValueError: There is no such decoder.
    """
    found = {}
    for name, value in state.items():
        inside = name.removeprefix(f'{part}_head.')
        own = rename(inside, _NECK) if inside != name else name.removeprefix(f'{part}_')
        new = rename(own, _THERE)
        if new != own:
            found[new] = value
    if not found:
        raise ValueError(
            f'expected the decoder of {part} of a Tipsv2Dpt model (neck.* and decoder.*, '
            f'{part}_neck.*, or {part}_head.*), found {len(state)} tensors, first '
            f'{next(iter(state), "none")}'
        )
    return found


def load_tips_dpt(
    head: TIPSHead, state: Mapping[str, Tensor], config: Tipsv2DptConfig | None = None
) -> TIPSHead:
    """Copy a decoder into `head`, every weight of it; which one, its output says.

    Args:
        head: To fill.
        state: Of a model or of a file.
        config: The model's, which alone tells the range of bins.

    Raises:
        ValueError: There is none, it does not fit, or none is published for that output.
    """
    part = _part_of(head)
    if config is not None:
        _check_config(head, config)
    load_strict(head, from_tips_dpt(state, part), 'the decoder')
    return head


def fill_tips_dpt(model: PreTrainedModel, head: TIPSHead) -> PreTrainedModel:
    """Copy `head`, trained here, into a ``Tipsv2Dpt`` model of transformers, every weight of it.

    Raises:
        ValueError: The model's decoder is of another shape, activation or range of bins.
    """
    alone = hasattr(model, 'neck')
    prefix = '' if alone else f'{_part_of(head)}_'
    _check_config(head, model.config)
    names = [f'{prefix}neck', f'{prefix}decoder']
    parts = nn.ModuleDict({name: getattr(model, name) for name in names})
    load_strict(parts, to_tips_dpt(head, alone=alone), f'TIPSHead for {type(model).__name__}')
    return model


def to_tips_dpt(head: TIPSHead, *, alone: bool = False) -> dict[str, Tensor]:
    """The weights of `head` by the names of transformers' models.

    Args:
        head: Trained here.
        alone: For a model of its output alone, ``neck.*`` and ``decoder.*``; else for
            ``Tipsv2DptForDensePrediction``, such as ``depth_neck.*``.

    Raises:
        ValueError: transformers has none for that output.
    """
    prefix = '' if alone else f'{_part_of(head)}_'
    return {f'{prefix}{rename(name, _BACK)}': value for name, value in head.state_dict().items()}


def _check_config(head: TIPSHead, config: Tipsv2DptConfig) -> None:
    """Refuse a model whose decoders compute something else of the same weights."""
    expected: dict[str, object] = dict(
        readout_activation='gelu_pytorch_tanh', reassemble_factors=[4, 2, 1, 0.5]
    )
    if head.output == 'bins':
        expected |= dict(
            depth_decoder_activation='relu',
            num_depth_bins=len(head.bin_centres),
            min_depth=head.min_depth,
            max_depth=head.max_depth,
        )
    for name, value in expected.items():
        found = getattr(config, name)
        found = list(found) if isinstance(found, tuple) else found
        if found != value:
            raise ValueError(
                f'TIPSHead: expected a Tipsv2Dpt model of {name} {value} as the head has it, found '
                f'{found}'
            )


def _part_of(head: TIPSHead) -> str:
    if head.output not in PARTS or head.readout_type != 'project':
        raise ValueError(
            f'TIPSHead: expected output {" or ".join(PARTS)} and readout_type project, as TIPS v2 '
            f'has them, found {head.output} and {head.readout_type}'
        )
    return PARTS[head.output]

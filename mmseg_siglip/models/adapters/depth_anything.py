"""Decoders of Depth Anything and DPT as published, renamed for `DPTHead`.

Two layouts: transformers' (``neck.*`` and ``head.*``, of DepthAnything and DPT) and the releases'
(``depth_head.*`` of Depth Anything, ``scratch.*`` and ``pretrained.act_postprocess*`` of DPT).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from torch import Tensor

from mmseg_siglip.models.adapters.depth_release import DEPTH_ANYTHING, DPT, rename

if TYPE_CHECKING:
    from mmseg_siglip.models.decode_heads.dpt_head import DPTHead

_TRANSFORMERS = (
    (r'neck\.reassemble_stage\.layers\.(\d)\.projection\.', r'reassemble_blocks.projects.\1.conv.'),
    (r'neck\.reassemble_stage\.layers\.(\d)\.resize\.', r'reassemble_blocks.resize_layers.\1.'),
    (r'neck\.reassemble_stage\.readout_projects\.', r'reassemble_blocks.readout_projects.'),
    (r'neck\.convs\.(\d)\.', r'convs.\1.conv.'),
    (r'neck\.fusion_stage\.layers\.(\d)\.projection\.', r'fusion_blocks.\1.project.conv.'),
    (
        r'neck\.fusion_stage\.layers\.(\d)\.residual_layer(\d)\.convolution(\d)\.',
        r'fusion_blocks.\1.res_conv_unit\2.conv\3.conv.',
    ),
    (r'head\.(conv\d)\.', r'\1.'),
    (r'head\.head\.0\.', r'conv1.'),
    (r'head\.head\.2\.', r'conv2.'),
    (r'head\.head\.4\.', r'conv3.'),
)
# The deepest fusion block has nothing to add: published files carry weights that nothing reads.
_UNUSED = 'fusion_blocks.0.res_conv_unit1.'


def from_depth_anything(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The decoder's weights under the names of `DPTHead`; the encoder's are left out.

    Raises:
        ValueError: No decoder is there, in either layout.
    """
    renamed = {}
    for name, value in state_dict.items():
        new = rename(rename(name, DEPTH_ANYTHING + DPT), _TRANSFORMERS)
        if new != name and not new.startswith(_UNUSED):
            renamed[new] = value
    if not renamed:
        raise ValueError(
            'expected the decoder of Depth Anything or DPT (neck.* and head.*, depth_head.*, or '
            f'scratch.*), found {len(state_dict)} tensors, first {next(iter(state_dict), "none")}'
        )
    return renamed


def load_depth_anything(head: DPTHead, state_dict: Mapping[str, Tensor]) -> DPTHead:
    """Copy a published decoder into `head`, every weight of it.

    Raises:
        ValueError: A weight is missing, unknown to `head`, or of another shape.
    """
    renamed = from_depth_anything(state_dict)
    own = head.state_dict()
    missing = sorted(set(own) - set(renamed))
    unknown = sorted(set(renamed) - set(own))
    reshaped = [
        f'{name} {tuple(own[name].shape)}, found {tuple(renamed[name].shape)}'
        for name in own
        if name in renamed and own[name].shape != renamed[name].shape
    ]
    for what, names in (('lacks', missing), ('also has', unknown), ('expected', reshaped)):
        if names:
            raise ValueError(
                f'the published decoder does not fit DPTHead: {what} {names[0]}'
                f' ({len(names)} in all)'
            )
    head.load_state_dict(renamed)
    return head

"""The parts of a DPT decoder: tokens to a pyramid, and the pyramid back to one map.

DPT, https://arxiv.org/abs/2103.13413, on MMSegmentation's blocks.
Shapes: B images, D encoder channels, grid (h, w), F decoder channels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mmseg.models.decode_heads.dpt_head import FeatureFusionBlock
from mmseg.models.decode_heads.dpt_head import ReassembleBlocks as BaseReassembleBlocks
from torch import Tensor, nn
from torch.nn.functional import interpolate, linear

Tap = Tensor | tuple[Tensor, Tensor]
READOUTS = ('ignore', 'add', 'project')


class ReassembleBlocks(BaseReassembleBlocks):
    """Four maps of one size to maps of 4, 2, 1 and 1/2 times that size.

    MMSeg's own takes (feature, readout) pairs alone, and a batch of two for such a pair.

    Args:
        in_channels: D.
        out_channels: C_i of the four stages.
        readout_type: One of `READOUTS`.
        patch_size: Side of a patch, pixels.
        gelu: How GELU behind the projection of ``project`` is computed: ``none``, exactly, or
            ``tanh``.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: Sequence[int],
        readout_type: str,
        patch_size: int = 16,
        *,
        gelu: str = 'none',
    ) -> None:
        super().__init__(in_channels, list(out_channels), readout_type, patch_size)
        for project in self.readout_projects if readout_type == 'project' else ():
            project[1] = nn.GELU(approximate=gelu)

    def forward(self, taps: Sequence[Tap]) -> list[Tensor]:
        """Runs every stage.

        Args:
            taps: A (B, D, h, w) map each, or a pair of it and a readout vector (B, D).

        Returns:
            (B, C_i, ...) of each stage; the last is of half the size, rounded up.

        Raises:
            ValueError: The number of taps, or what comes with them, does not fit.
        """
        if len(taps) != len(self.projects):
            raise ValueError(f'DPT: expected {len(self.projects)} taps, found {len(taps)}')
        stages = enumerate(zip(taps, self.projects, self.resize_layers, strict=True))
        return [resize(project(self.read(i, tap))) for i, (tap, project, resize) in stages]

    def read(self, index: int, tap: Tap) -> Tensor:
        """Bring the readout vector, if it is used, into each patch."""
        feature, readout = (tap, None) if isinstance(tap, Tensor) else tap
        if self.readout_type == 'ignore':
            return feature
        if readout is None:
            raise ValueError(
                f"DPT: readout_type '{self.readout_type}' expects (feature, readout) pairs, "
                f'found a tensor at tap {index}'
            )
        if self.readout_type == 'add':
            return feature + readout[:, :, None, None]
        layer, act = self.readout_projects[index]
        for_patch, for_readout = layer.weight.chunk(2, dim=1)
        tokens = linear(feature.flatten(2).transpose(1, 2), for_patch)
        tokens = act(tokens + linear(readout, for_readout, layer.bias)[:, None])
        return tokens.transpose(1, 2).unflatten(2, feature.shape[2:])


class FusionBlock(FeatureFusionBlock):
    """Adds the next finer map, refines, and enlarges to a given size.

    Differs from MMSeg's in three ways: the size is that of the map that comes next, so that odd
    grids do not grow; convolutions may have a bias where no norm follows, as in most published
    weights; and the first block, which has nothing to add, has no unit for it.

    Args:
        channels: F.
        has_skip: Whether a second map is added.
        norm_cfg: Norm of the residual units.
        bias: Whether convolutions have a bias where no norm follows.
    """

    def __init__(
        self, channels: int, *, has_skip: bool, norm_cfg: dict | None = None, bias: bool = True
    ) -> None:
        super().__init__(channels, act_cfg=dict(type='ReLU'), norm_cfg=norm_cfg)
        if not has_skip:
            self.res_conv_unit1 = None
        for unit in (self.res_conv_unit1, self.res_conv_unit2):
            if unit is not None and norm_cfg is None and bias:
                for module in (unit.conv1, unit.conv2):
                    module.conv.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor, skip: Tensor | None, size: tuple[int, int]) -> Tensor:
        """(B, F, a, b) and, if there is one, a skip of that size, or brought to it, to
        (B, F, *size).

        The projection of single pixels and the interpolation commute; it comes first because the
        map is smaller then.
        """
        if skip is not None and skip.shape != x.shape:
            skip = interpolate(skip, size=x.shape[2:], mode='bilinear', align_corners=False)
        if skip is not None:
            x = x + self.res_conv_unit1(skip)
        x = self.project(self.res_conv_unit2(x))
        return interpolate(x, size=size, mode='bilinear', align_corners=True)

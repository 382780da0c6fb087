"""DPT as it is published on TIPS v2, https://arxiv.org/abs/2604.12012."""

from __future__ import annotations

from torch import Tensor, nn

from mmseg_siglip.models.decode_heads.dpt_head import DPTHead
from mmseg_siglip.registry import MODELS


@MODELS.register_module()
class TIPSHead(DPTHead):
    """`DPTHead` with the parts that transformers' ``Tipsv2Dpt`` decoders have.

    GELU by tanh, residual units without bias, and one 3x3 convolution before the output's, all at 8
    pixels a patch. Bins are weighted by a ReLU plus `min_depth`. Published are ``output='bins'``
    and ``output='normals'``, both with ``readout_type='project'`` of each tap's CLS token
    (``tap_readout='cls'`` of `SigLIPDepthEstimator`); see `load_tips_dpt` and `fill_tips_dpt`.
    """

    gelu = 'tanh'
    fusion_bias = False
    aligns_corners = False
    grows = True

    def build_tail(self, channels: int) -> None:
        self.project = nn.Conv2d(self.channels, self.channels, 3, padding=1)
        self.head = nn.Linear(self.channels, channels)

    def tail(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        x = self.project(x)
        x = x if self.output == 'normals' else x.relu()
        return self.head(x.movedim(1, -1)).movedim(-1, 1)

    @property
    def bin_floor(self) -> float:
        return self.min_depth

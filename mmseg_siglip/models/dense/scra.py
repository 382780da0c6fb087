"""SCRA of RADSeg, https://arxiv.org/abs/2511.19704, on any ViT: the output of the last attention
says which tokens mix.

Shapes: B windows, H heads, N tokens, d per head.
"""

from __future__ import annotations

from torch import Tensor

from mmseg_siglip.models.backbones.block import attend, split_heads
from mmseg_siglip.models.backbones.trunk import Trunk
from mmseg_siglip.models.dense.method import DenseMethod
from mmseg_siglip.models.dense.similarity import Similarity
from mmseg_siglip.registry import DENSE_METHODS

SHARPNESS = 10.0

WINDOWS = dict(crop_size=336, stride=224, logit_scale=100)
RESOLUTIONS = dict(
    low=WINDOWS | dict(short_side=336, crop_size=224, stride=112),
    mid=WINDOWS | dict(short_side=576),
    high=WINDOWS | dict(short_side=672),
)
"""Settings of https://github.com/RADSeg-OVSS/RADSeg, commit 05ec86f, for its own encoder RADIO;
where they differ with the data, ADE20K's. Sides are multiples of the stride there.
For the reader and parity: no protocol takes them."""


@DENSE_METHODS.register_module(name='scra')
class SCRA(DenseMethod):
    """softmax(10 cos(o, o), negatives left out) v in each head, o the output of the last attention
    as it was trained; residual and FFN.

    o is what the output projection gives, cut into heads again; prefix tokens take part. Where a
    block has a layer scale, it is part of o.

    Args:
        reduced: Without residual and FFN.
    """

    def __init__(self, *, reduced: bool = False) -> None:
        super().__init__()
        self.residual = self.ffn = not reduced

    def mix(self, q: Tensor, k: Tensor, v: Tensor, trunk: Trunk) -> Tensor:
        heads, count, width = v.shape[1:]
        o = split_heads(trunk.last.out(attend(q, k, v)), heads)
        mixed = Similarity(o.flatten(0, 1)).sharpened(v.flatten(0, 1), SHARPNESS, centred=False)
        return mixed.view(-1, heads, count, width).to(v.dtype)

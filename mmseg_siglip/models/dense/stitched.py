"""A method of ours: the last attention once over the whole picture, not in each window.

OV-Stitcher's idea, whose code and constants are not public; this is no reproduction of it.
Shapes: n windows, guide's cells of a window M, G channels of the guide, C of the encoder, cells of
the whole picture (h_s, w_s).
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn
from torch.nn.functional import normalize

from mmseg_siglip.models.backbones.block import split_heads
from mmseg_siglip.models.backbones.trunk import Trunk
from mmseg_siglip.models.dense.correlation import mean_cosine, proxy, share_values
from mmseg_siglip.models.dense.guided import GUIDE, Guided, pictured, resized, values_of
from mmseg_siglip.precision import autocast
from mmseg_siglip.registry import DENSE_METHODS


@DENSE_METHODS.register_module(name='stitched')
class Stitched(Guided):
    """Values and the guide's unit features of all windows are each spliced into one map of the
    picture, overlaps averaged, and ProxyCLIP's correlation runs over it once.

    Nothing is published of it. The defaults are ProxyCLIP's and unmeasured.

    Args:
        guide: See `Guided`.
        beta: See `ProxyCLIP`; the mean is over all pairs of the picture's cells.
        gamma: See `ProxyCLIP`.
    """

    scope = 'image'
    whole = True

    def __init__(
        self,
        guide: str | Mapping | nn.Module = GUIDE,
        *,
        beta: float = 1.2,
        gamma: float = 3.0,
    ) -> None:
        super().__init__(guide)
        self.beta, self.gamma = beta, gamma

    def forward(self, trunk: Trunk) -> Tensor:
        seen = pictured(self.look(trunk).map, trunk)
        grid = tuple(seen.shape[-2:])
        maps, heads = values_of(trunk)
        with autocast('fp32', maps.device):
            features = normalize(seen.flatten(2).transpose(1, 2), dim=-1)
            mean = mean_cosine(features)

            def weigh(cosines: Tensor, windows: slice, queries: slice) -> Tensor:
                return proxy(cosines, mean, beta=self.beta, gamma=self.gamma, first=queries.start)

            values = resized(pictured(maps, trunk), grid)
            mixed = share_values(features, values.flatten(2).transpose(1, 2), weigh)
        return trunk.last.read(trunk.last.out(split_heads(mixed, heads)), grid)

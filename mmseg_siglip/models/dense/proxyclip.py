"""ProxyCLIP, https://arxiv.org/abs/2408.04883."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from mmseg_siglip.models.backbones.trunk import Trunk
from mmseg_siglip.models.dense.correlation import mean_cosine, proxy, share_values
from mmseg_siglip.models.dense.guided import GUIDE, Guided
from mmseg_siglip.registry import DENSE_METHODS

SOURCE = 'https://github.com/mc-lan/ProxyCLIP, with DINO B/8'
SLIDE = dict(short_side=336, crop_size=336, stride=112, logit_scale=40)
PUBLISHED = dict(
    voc21=dict(SLIDE, prob_thd=0.2, area_thd=None),
    voc20=SLIDE,
    context60=dict(SLIDE, prob_thd=0.15),
    context59=SLIDE,
    coco_object=dict(SLIDE, prob_thd=0.25),
    coco_stuff=SLIDE,
    cityscapes=dict(SLIDE, short_side=448, crop_size=224),
    ade20k=dict(SLIDE, short_side=448),
)
PUBLISHED_MIOU = dict(context60=35.3, context59=39.1, coco_stuff=26.5, cityscapes=38.1, ade20k=20.2)
"""VOC's and COCO-Object's figures are of other words than SCLIP's."""


@DENSE_METHODS.register_module(name='proxyclip')
class ProxyCLIP(Guided):
    """A = softmax(gamma (S - beta m)) where that is not negative, S the cosines of a window's
    features by the guide and m their mean.

    The published code differs: m is the mean over all windows that happen to be in a batch; where
    it is above 1/beta, as in a picture of one colour, not even a cell itself is left and all is NaN
    (here a cell always keeps itself); windows have to be square; a side that 56 does not divide is
    padded for both models (here a guide sees what the encoder's patches span, and enlarges it to
    patches of its own).

    Args:
        guide: See `Guided`; DINO B/8 is published, and DINOv2 with registers, SAM and MAE are.
        beta: See the formula.
        gamma: See the formula.
        parity: As published, the mean over the batch and the NaN.
    """

    def __init__(
        self,
        guide: str | Mapping | nn.Module = GUIDE,
        *,
        beta: float = 1.2,
        gamma: float = 3.0,
        parity: bool = False,
    ) -> None:
        super().__init__(guide)
        self.beta, self.gamma, self.parity = beta, gamma, parity

    def forward(self, trunk: Trunk) -> Tensor:
        seen = self.look(trunk)
        mean = mean_cosine(seen.x)
        if self.parity:
            mean = mean.mean(0, keepdim=True).expand_as(mean)

        def weigh(cosines: Tensor, windows: slice, queries: slice) -> Tensor:
            first = None if self.parity else queries.start
            return proxy(cosines, mean[windows], beta=self.beta, gamma=self.gamma, first=first)

        mixed = self.attend(trunk, seen.grid, lambda values: share_values(seen.x, values, weigh))
        return trunk.last.read(mixed, seen.grid)

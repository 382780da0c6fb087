"""ProxyCLIP, https://arxiv.org/abs/2408.04883."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from mmseg_siglip.models.backbones.trunk import Trunk
from mmseg_siglip.models.dense.correlation import mean_cosine, proxy, share_values
from mmseg_siglip.models.dense.guided import GUIDE, Guided
from mmseg_siglip.registry import DENSE_METHODS

PUBLISHED = dict(
    common=dict(encoder='ViT-B/16', logit_scale=40.0, templates='imagenet80'),
    voc21=dict(short_side=336, crop_size=336, stride=112, prob_thd=0.2, miou=61.3),
    context60=dict(short_side=336, crop_size=336, stride=112, prob_thd=0.15, miou=35.3),
    coco_object=dict(short_side=336, crop_size=336, stride=112, prob_thd=0.25, miou=37.5),
    voc20=dict(short_side=336, crop_size=336, stride=112, miou=80.3),
    cityscapes=dict(short_side=448, crop_size=224, stride=112, miou=38.1),
    context59=dict(short_side=336, crop_size=336, stride=112, miou=39.1),
    ade20k=dict(short_side=336, crop_size=336, stride=112, miou=20.2),
    coco_stuff=dict(short_side=336, crop_size=336, stride=112, miou=26.5),
)
"""Settings of https://github.com/mc-lan/ProxyCLIP and its mIoU with OpenAI's B/16 and DINO B/8."""


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

"""ProxyCLIP, https://arxiv.org/abs/2408.04883."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from mmseg_siglip.models.backbones.planes import Planes
from mmseg_siglip.models.backbones.tokens import Tokens
from mmseg_siglip.models.backbones.trunk import Trunk
from mmseg_siglip.models.dense.correlation import mean_cosine, proxy, share_values
from mmseg_siglip.models.dense.guided import GUIDE, Guided, look
from mmseg_siglip.models.windows.stitch import Stitch, enlarged
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
    patches of its own), which no window of the published sizes has; see `frame`.

    Args:
        guide: See `Guided`; DINO B/8 is published, and DINOv2 with registers, SAM and MAE are.
        beta: See the formula.
        gamma: See the formula.
        frame: 56 for windows filled up to multiples of 56 pixels, as published: with the encoder's
            mean colour, on either side the half, on the first one the smaller. The encoder then
            leaves out what does not fill a patch, and scores of pixels come back instead of
            features, cut to the window.
        parity: As published, the mean over the batch and the NaN.

    Raises:
        ValueError: `frame` is below 1.
    """

    def __init__(
        self,
        guide: str | Mapping | nn.Module = GUIDE,
        *,
        beta: float = 1.2,
        gamma: float = 3.0,
        frame: int | None = None,
        parity: bool = False,
    ) -> None:
        super().__init__(guide)
        if frame is not None and frame < 1:
            raise ValueError(f'proxyclip: expected a frame of 1 or more pixels, found {frame}')
        self.beta, self.gamma, self.frame, self.parity = beta, gamma, frame, parity
        self.gives = 'features' if frame is None else 'cosines'

    def forward(self, trunk: Trunk) -> Tensor | list[Planes]:
        if self.frame is None:
            return self.features(trunk, self.look(trunk))
        size, patch = tuple(trunk.images.shape[-2:]), trunk.encoder.patch_size
        images, corner = framed(trunk.images, self.frame)
        height, width = (side // patch * patch for side in images.shape[-2:])
        inner = trunk.look(images[..., :height, :width])
        seen = look(self.guide, trunk.encoder.to_pixels(images), trunk.surroundings.batch)
        cosines = trunk.cosines(self.features(inner, seen))
        span = tuple(n * patch for n in trunk.grid)
        pixels = [enlarged(one, tuple(images.shape[-2:])) for one in cosines]
        return [cut_out(one, corner, size, span) for one in pixels]

    def features(self, trunk: Trunk, seen: Tokens) -> Tensor:
        """(B, D, g_h, g_w), by a guide's unit features (B, M, G)."""
        mean = mean_cosine(seen.x)
        if self.parity:
            mean = mean.mean(0, keepdim=True).expand_as(mean)

        def weigh(cosines: Tensor, windows: slice, queries: slice) -> Tensor:
            first = None if self.parity else queries.start
            return proxy(cosines, mean[windows], beta=self.beta, gamma=self.gamma, first=first)

        mixed = self.attend(trunk, seen.grid, lambda values: share_values(seen.x, values, weigh))
        return trunk.last.read(mixed, seen.grid)


def framed(images: Tensor, step: int) -> tuple[Tensor, tuple[int, int]]:
    """Images (B, 3, H, W) filled up with 0 to multiples of `step`, and where in them they begin."""
    down, right = (-side % step for side in images.shape[-2:])
    top, left = down // 2, right // 2
    return pad(images, (left, right - left, top, down - top)), (top, left)


def cut_out(
    pixels: Stitch, corner: tuple[int, int], size: tuple[int, int], span: tuple[int, int]
) -> Planes:
    """The part of planes that begins at `corner`, of `size` (H, W), its last rows and columns
    repeated up to `span`."""
    (top, left), (height, width) = corner, size
    columns = left + torch.arange(span[1], device=pixels.planes.device).clamp(max=width - 1)

    def rows(first: int, last: int) -> Tensor:
        wanted = torch.arange(first, last, device=columns.device).clamp(max=height - 1)
        start = min(first, height - 1)
        part = pixels.rows(top + start, top + max(min(last, height), start + 1))
        return part[:, wanted - start][:, :, columns]

    return Planes(span, rows)

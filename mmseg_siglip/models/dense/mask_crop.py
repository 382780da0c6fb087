"""Masks first, words after: the plain two-stage baseline, as in OVSeg without its training,
https://arxiv.org/abs/2210.04150.

Shapes: one image (H, W), R regions, encoder's own size (S_h, S_w), Q words.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import chain, islice

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from mmseg_siglip.models.backbones.planes import Planes
from mmseg_siglip.models.backbones.trunk import Trunk
from mmseg_siglip.models.dense.method import DenseMethod
from mmseg_siglip.models.dense.region_masks import RegionMasks, mask_boxes, paint, whole_image
from mmseg_siglip.registry import DENSE_METHODS

BATCH = 16


@DENSE_METHODS.register_module(name='mask_crop')
class MaskCrop(DenseMethod):
    """Each region is cut out of the picture, and the encoder's own vector of it is compared with
    words.

    A pixel gets the mean cosine of the regions that it lies in, one in none that of the whole
    image.

    Args:
        masked: Whether what lies in a region's box and not in the region gets the encoder's mean
            colour.
        margin: Added to a box on each side, as a part of it.

    Raises:
        ValueError: `margin` is below 0, or it is given windows.
    """

    gives = 'cosines'
    scope = 'image'
    whole = uses_regions = pools = True
    windows = False

    def __init__(self, *, masked: bool = True, margin: float = 0.0) -> None:
        super().__init__()
        if not margin >= 0:
            raise ValueError(f'mask_crop: expected margin of 0 or more, found {margin}')
        self.masked, self.margin = masked, margin

    def forward(self, trunk: Trunk) -> list[Planes]:
        whole_image(trunk, 'mask_crop')
        (image,), masks = trunk.images, RegionMasks.of(trunk)
        height, width = image.shape[-2:]
        kept = [part[:, :height, :width].flatten(1).any(1) for part in masks.parts()]
        masks = masks[torch.cat(kept)] if kept else masks
        size, step = trunk.encoder.image_size, trunk.surroundings.batch or BATCH
        views, vectors = chain([image], self.cuts(image, masks)), []
        while batch := [*islice(views, step)]:
            batch = [
                interpolate(view[None], size=size, mode='bilinear', antialias=True)
                for view in batch
            ]
            vectors.append(trunk.encoder.encode_image(torch.cat(batch)))
        cosines = trunk.cosines(torch.cat(vectors).T[None, :, :, None])[0, :, :, 0]
        return [paint(cosines[:, 1:].T, masks, cosines[:, :1, None])]

    def cuts(self, image: Tensor, masks: RegionMasks) -> Iterator[Tensor]:
        """Each region out of an image (3, H, W), in which it has pixels."""
        for part in masks.parts():
            part = part[:, : image.shape[1], : image.shape[2]]
            yield from map(partial(self.cut, image), part, mask_boxes(part).tolist())

    def cut(self, image: Tensor, mask: Tensor, box: Sequence[int]) -> Tensor:
        """The box around a mask (H, W), of `mask_boxes`, out of an image (3, H, W)."""
        sides = []
        for first, last in (box[:2], box[2:]):
            more = round(self.margin * (last - first))
            sides.append(slice(max(0, first - more), last + more))
        image = image * mask if self.masked else image
        return image[:, sides[0], sides[1]]

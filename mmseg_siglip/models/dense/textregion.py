"""TextRegion, https://arxiv.org/abs/2505.23769.

Shapes: one image (H, W), V views of it, each a square of (g, g) patches; the crops side by side
make a grid (h, w), M = h*w; R regions, C channels, D joint channels, Q words.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import interpolate, normalize

from mmseg_siglip.models.backbones.block import merge_heads, split_heads
from mmseg_siglip.models.backbones.planes import Planes
from mmseg_siglip.models.backbones.tokens import Tokens
from mmseg_siglip.models.backbones.trunk import Trunk, build_method
from mmseg_siglip.models.dense.guided import resized
from mmseg_siglip.models.dense.merged_masks import merged
from mmseg_siglip.models.dense.method import DenseMethod
from mmseg_siglip.models.dense.region_masks import RegionMasks, paint, whole_image
from mmseg_siglip.precision import autocast
from mmseg_siglip.registry import DENSE_METHODS

METHOD = dict(side=336, merge=True)
WHOLE = dict(short_side=672, crop_size=None, logit_scale=50, method=METHOD)
PUBLISHED = dict(
    voc21=dict(WHOLE, prob_thd=0.4, area_thd=None),
    voc20=WHOLE,
    context60=dict(WHOLE, prob_thd=0.35),
    context59=WHOLE,
    coco_object=dict(WHOLE, prob_thd=0.5),
    coco_stuff=dict(WHOLE, short_side=896),
    cityscapes=dict(WHOLE, short_side=1344, method=dict(METHOD, wholes=2)),
    ade20k=WHOLE,
)
"""Settings of the authors' configurations."""


@DENSE_METHODS.register_module(name='textregion')
class TextRegion(DenseMethod):
    """Each region is pooled as the encoder pools an image, and compared with words as a whole.

    The image is looked at as a whole and in crops, each a square of the encoder's own size; both
    are added on the crops' grid. Patches that are as near to other regions as to their own tell
    about the image, and are left out. A pixel gets the mean score of the regions that it lies in; a
    pixel in none, the dense cosines of `fill`.

    An encoder with a CLS token pools values of its last attention, weighed by the region's mask,
    with equal attention. One that pools by attention runs its head on the region, its probe's
    attention weighed by the mask; the authors leave the probe, the head's norm and its MLP out.

    Args:
        side: Of views, pixels; the encoder's own by default, 336 published.
        threshold: A patch goes whose mean cosine with its own regions is not this much above that
            with others; None keeps all.
        wholes: Parts side by side that the image as a whole is looked at in, two for Cityscapes.
        fill: The dense method of pixels in no region, at the encoder's site for it.
        resample: How views are resized, ``bicubic`` or ``bilinear``, the latter without smoothing.
        merge: Whether masks that overlap are made one where they show one thing, see `merged`, as
            the authors do. They come whole things first, then parts, then parts of parts, each by
            predicted IoU; here in the order of the regions, which `SAMRegions` gives by IoU alone.
            A label map has nothing to merge.
        unit_values: As published in float32, where a division in place also brings the values
            themselves to unit length; not in half precision.
        parity: As published: scores of regions are added where they overlap; an encoder that pools
            by attention takes the mean of a region's values in its head, half the whole and all of
            the crops, and leaves pixels in no region without a score.

    Raises:
        ValueError: There is no such `fill` or `resample`, or it is given windows.
    """

    gives = 'cosines'
    scope = 'image'
    whole = uses_regions = pools = True
    windows = False

    def __init__(
        self,
        *,
        side: int | None = None,
        threshold: float | None = 0.07,
        wholes: int = 1,
        fill: str = 'csa',
        resample: str = 'bicubic',
        merge: bool = False,
        unit_values: bool = False,
        parity: bool = False,
    ) -> None:
        super().__init__()
        if resample not in ('bicubic', 'bilinear'):
            raise ValueError(f'resample: expected bicubic or bilinear, found {resample!r}')
        self.side, self.threshold, self.wholes = side, threshold, wholes
        self.fill, self.resample = build_method(fill), resample
        self.merge, self.unit_values, self.parity = merge, unit_values, parity

    def check(self, encoder) -> None:
        self.fill.check(encoder)

    def forward(self, trunk: Trunk) -> list[Planes]:
        whole_image(trunk, 'textregion')
        seen, crops = self.seen(trunk)
        masks = RegionMasks.of(trunk)
        if self.merge and masks.names is None:
            masks = RegionMasks(merged(masks.held))
        weights = mask_weights(masks, self.grid(seen, crops))
        vectors, kept = self.pool(seen, self.patches(seen, crops), weights)
        scores = trunk.cosines(vectors.T[None, :, :, None])[0, :, :, 0].T
        fill = None
        if not (self.parity and trunk.encoder.pools_by_attention):
            known = seen.surroundings
            site = trunk.encoder.site_for(self.fill, readout=known.readout)
            seen.surroundings = replace(known, site=site)
            dense = trunk.encoder.features_of(seen, self.fill)[self.wholes :]
            fill = trunk.cosines(laid(dense, crops)[None])[0]
        kept = kept.nonzero()[:, 0]
        return [paint(scores[kept], masks[kept], fill, add=self.parity)]

    def seen(self, trunk: Trunk) -> tuple[Trunk, tuple[int, int]]:
        """The views, those of the whole first, and how many crops there are down and across."""
        side = self.side or trunk.encoder.image_size[0]
        (pixels,) = trunk.pixels
        crops = tuple(max(length // side, 1) for length in pixels.shape[-2:])
        parts = [*pixels.chunk(self.wholes, dim=2)]
        for row in cut(pixels, crops[0], 1):
            parts += cut(row, crops[1], 2)
        smooth = self.resample == 'bicubic'
        views = [
            interpolate(part[None], size=(side, side), mode=self.resample, antialias=smooth)
            for part in parts
        ]
        return trunk.look(trunk.encoder.from_pixels(torch.cat(views).clamp(0, 1))), crops

    @staticmethod
    def grid(seen: Trunk, crops: tuple[int, int]) -> tuple[int, int]:
        return tuple(n * cells for n, cells in zip(crops, seen.grid, strict=True))

    def patches(self, seen: Trunk, crops: tuple[int, int]) -> Tensor:
        """What is pooled, of all views together, (M, C)."""
        maps = pooled_maps(seen)
        whole = resized(laid(maps[: self.wholes], (1, self.wholes))[None], self.grid(seen, crops))
        share = 0.5 if seen.encoder.pools_by_attention else 1.0
        total = share * whole[0] + laid(maps[self.wholes :], crops)
        if seen.encoder.pools_by_attention and not self.parity:
            total = total / (1 + share)
        return total.flatten(1).T

    def pool(self, seen: Trunk, patches: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Patches (M, C) and the weights that regions (R, M) give them to vectors (R, D), not
        normalised, and which of the regions have patches left, (R,)."""
        units = normalize(patches.float(), dim=-1)
        with autocast('fp32', units.device):
            if self.threshold is not None:
                weights = weights * ~redundant(units, weights, self.threshold)
            return self._pooled(seen, units if self.unit_values else patches, weights), weights.any(
                1
            )

    def _pooled(self, seen: Trunk, patches: Tensor, weights: Tensor) -> Tensor:
        encoder = seen.encoder
        if not encoder.pools_by_attention:
            heads = seen.last.qkv()[2].shape[1]
            y = seen.last.out(split_heads((weights @ patches.float())[None], heads))
            return seen.last.read(y, (len(weights), 1))[0, :, :, 0].T
        if not self.parity:
            prefix = encoder.norm(seen.output(-1)[0, : seen.prefix])
            return encoder.pool_regions(torch.cat([prefix, patches])[None], weights[None])[0]
        block, hard = encoder.head_block(), (weights > 0).float()
        values = block.qkv(patches[None], (1, len(patches)))[2]
        y = block.out((hard / hard.sum(1, keepdim=True).clamp(min=1)) @ values)
        return encoder.to_joint(y)[0]


def pooled_maps(seen: Trunk) -> Tensor:
    """What a pooled vector is a mixture of, (V, C, g, g): values of the last attention, or where a
    head pools the tokens that it sees."""
    if seen.encoder.pools_by_attention:
        tokens = seen.encoder.norm(seen.output(-1))
    else:
        tokens = merge_heads(seen.last.qkv()[2])
    return Tokens(tokens, seen.grid, seen.prefix).map


def redundant(units: Tensor, weights: Tensor, threshold: float) -> Tensor:
    """Which patches tell of the image instead of their place, (M,) bool, by unit features (M, C)
    and regions (R, M). A patch in no region or in all is kept."""
    member = (weights > 0).float()
    means = member @ units / member.sum(1, keepdim=True).clamp(min=1)
    cosines, member = units @ means.T, member.T
    inside, outside = member.sum(1), (1 - member).sum(1)
    own = (cosines * member).sum(1) / inside
    other = (cosines * (1 - member)).sum(1) / outside
    return (own - other < threshold) & (inside > 0) & (outside > 0)


def cut(pixels: Tensor, count: int, dim: int) -> list[Tensor]:
    """Equal parts along a side, the last one shorter where it does not divide."""
    length = -(-pixels.shape[dim] // count)
    return list(pixels.split(length, dim))


def laid(maps: Tensor, crops: tuple[int, int]) -> Tensor:
    """(n, C, g, g) side by side, row by row: (C, h, w)."""
    rows = maps.unflatten(0, crops).permute(2, 0, 3, 1, 4)
    return rows.flatten(1, 2).flatten(2)


def mask_weights(masks: RegionMasks, grid: tuple[int, int]) -> Tensor:
    """Masks on a grid, bilinearly, (R, M) in [0, 1]."""
    parts = [torch.zeros(0, grid[0] * grid[1], device=masks.held.device)]
    for part in masks.parts(pixel_bytes=4):
        part = interpolate(part[None].float(), size=grid, mode='bilinear')[0]
        parts.append(part.clamp(0, 1).flatten(1))
    return torch.cat(parts)

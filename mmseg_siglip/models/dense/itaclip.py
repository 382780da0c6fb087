"""ITACLIP, https://arxiv.org/abs/2411.12044, its image side.

Shapes: B images (H, W), H heads, N tokens, d per head, grid (h, w) of patches of p x p pixels, D
joint channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType

import torch
from torch import Tensor
from torch.nn.functional import conv2d, normalize

from mmseg_siglip.kept import channels
from mmseg_siglip.models.backbones.base import VisionLanguageBackbone
from mmseg_siglip.models.backbones.block import attend
from mmseg_siglip.models.backbones.tokens import Tokens
from mmseg_siglip.models.backbones.trunk import Trunk, block_positions
from mmseg_siglip.models.dense.depth import scaled_blocks, some_blocks
from mmseg_siglip.models.dense.method import DenseMethod
from mmseg_siglip.models.dense.middle import attend_as
from mmseg_siglip.models.dense.spans import mirrored, spanned
from mmseg_siglip.registry import DENSE_METHODS

BLOCKS = (6, 7, 9)
GREY = (0.2989, 0.587, 0.114)
BLUR_SIDE, BLUR_STD = 11, 5.0


def _published(short_side: int, logit_scale: float, weight: float, **other) -> MappingProxyType:
    method = dict(type='itaclip', views=weight)
    return MappingProxyType(
        dict(
            short_side=short_side,
            logit_scale=logit_scale,
            method=method,
            test_cfg=dict(mode='slide', crop_size=224, stride=28),
            postprocessor=dict(type='PAMRPostProcessor', num_iter=10, dilations=(8, 16)),
            **other,
        )
    )


PUBLISHED = MappingProxyType(
    dict(
        coco_stuff=_published(448, 40.0, 0.75),
        coco_object=_published(336, 50.0, 0.75, prob_thd=0.1),
        context60=_published(336, 55.0, 0.75, prob_thd=0.1),
        voc21=_published(336, 60.0, 0.7, prob_thd=0.1, area_thd=0.1),
        cityscapes=_published(560, 40.0, 0.7),
    )
)
"""Settings for CLIP B/16 by data set, https://github.com/m-arda-aydn/ITACLIP; there are none for
L/14. The published figures also need its word lists and its text side."""


@DENSE_METHODS.register_module(name='itaclip')
class ITACLIP(DenseMethod):
    """Half the last attention, softmax(q qᵀ / √d) + softmax(k kᵀ / √d), and half the mean of such
    maps of middle blocks; with the residual, without the feed-forward part. Five views agree.

    The views of a window are itself, grey, blurred, and mirrored both ways. Cosines of the first
    three are averaged; so are those of the mirrored two, turned back; the result is c times the
    first mean and 1 - c times the second. All of this is linear, so features of unit length are
    added up instead, and their sum is not brought to unit length again.

    Each view is a pass through the encoder. On the head, whose heads are others than the trunk's,
    middle maps are the mean over heads, and there is no residual; nothing is published or measured
    there. Left out: the closing of the label map, which orders classes by their number.

    Args:
        views: c; None looks at the window alone.
        blocks: The middle ones; by default 6, 7 and 9 of 12, scaled to other depths, which is not
            published.

    Raises:
        ValueError: `views` is no weight in [0, 1], or `blocks` is empty.
    """

    residual = True

    def __init__(self, *, views: float | None = 0.75, blocks: Sequence[int] | None = None) -> None:
        super().__init__()
        if views is not None and not 0 <= views <= 1:
            raise ValueError(f'itaclip: expected views None or a weight in [0, 1], found {views}')
        some_blocks(blocks, 'itaclip')
        self.views, self.blocks = views, blocks
        if views is not None:
            self.gives, self.normalise = 'features', False

    def check(self, encoder: VisionLanguageBackbone) -> None:
        if self.blocks is not None:
            block_positions(self.blocks, encoder.num_layers, 'itaclip: blocks')

    def forward(self, trunk: Trunk) -> Tokens | Tensor:
        if self.views is None:
            return self.alone(trunk)
        whole = spanned(trunk.images, trunk.grid, trunk.encoder.patch_size)
        plain = [trunk, trunk.look(grey(trunk.images)), trunk.look(blurred(trunk.images))]
        total = sum(self.unit(view) for view in plain) * (self.views / 3)
        for axis in (-2, -1):
            turned = self.unit(trunk.look(whole.flip(axis))).flip(axis)
            total = total + turned * ((1 - self.views) / 2)
        return total

    def unit(self, view: Trunk) -> Tensor:
        """Features (B, D, h, w) of one view, unit length."""
        found = self.alone(view)
        joint = view.project(found) if isinstance(found, Tokens) else found
        return normalize(joint.float(), dim=1)

    def alone(self, trunk: Trunk) -> Tokens | Tensor:
        """What the attention gives on one view."""
        trunk.open(self.middle(trunk))
        return trunk.last.run(self)

    def middle(self, trunk: Trunk) -> Sequence[int]:
        """`blocks`, or the default of them."""
        return scaled_blocks(BLOCKS, len(trunk.blocks)) if self.blocks is None else self.blocks

    def mix(self, q: Tensor, k: Tensor, v: Tensor, trunk: Trunk) -> Tensor:
        middle = attend_as(trunk, self.middle(trunk), v, ('qq', 'kk'))
        return (attend(q, q, v) + attend(k, k, v) + middle) / 2


def grey(images: Tensor) -> Tensor:
    """Luminance of normalised images (B, 3, H, W), three times."""
    return (images * channels(GREY, images)).sum(1, keepdim=True).expand_as(images)


def blurred(images: Tensor) -> Tensor:
    """Images (B, 3, H, W) behind a Gaussian of 11 x 11 pixels, their border mirrored."""
    reach = BLUR_SIDE // 2
    place = torch.arange(-reach, reach + 1, dtype=images.dtype, device=images.device)
    kernel = (-place.square() / (2 * BLUR_STD**2)).exp()
    kernel = (kernel / kernel.sum()).expand(3, 1, 1, -1)
    for axis, shape in ((-1, kernel), (-2, kernel.transpose(2, 3))):
        mirror = mirrored(images.shape[axis], reach, images.device)
        images = conv2d(images.index_select(axis, mirror), shape, groups=3)
    return images

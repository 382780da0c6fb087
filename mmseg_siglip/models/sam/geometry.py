"""Where an image lies in SAM's input, and what SAM made of it.

Shapes: B images of (H, W) pixels, SAM's input (S_h, S_w), its embeddings (C, h, w). ``pad`` keeps
the aspect: the image fills the top left (content) and zeros the rest, as SAM was trained.
``squash`` stretches the image over the whole input, as RSRefSeg does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import grid_sample, interpolate, pad

from mmseg_siglip.kept import constant

Size = tuple[int, int]
RESIZES = ('pad', 'squash')


@dataclass(frozen=True)
class SAMFeatures:
    """Images through SAM's encoder, with their geometry.

    Attributes:
        embeddings: (B, C, h, w).
        high_resolution: SAM 2's features at strides 4 and 8, projected; empty for SAM.
        sizes: (H, W) of every image, in its own pixels.
        contents: Rows and columns of SAM's input that every image fills.
        input_size: (S_h, S_w).
    """

    embeddings: Tensor
    high_resolution: tuple[Tensor, ...]
    sizes: tuple[Size, ...]
    contents: tuple[Size, ...]
    input_size: Size

    def __len__(self) -> int:
        return len(self.embeddings)

    def __getitem__(self, index: int) -> SAMFeatures:
        """One image, still as a batch (of one)."""
        return self.take([range(len(self))[index]])

    def take(self, indices: Sequence[int]) -> SAMFeatures:
        """Some of the images, in any order, any of them several times."""
        indices = tuple(indices)
        return SAMFeatures(
            rows_of(self.embeddings, indices),
            tuple(rows_of(feature, indices) for feature in self.high_resolution),
            tuple(self.sizes[i] for i in indices),
            tuple(self.contents[i] for i in indices),
            self.input_size,
        )

    def placed(self, sizes: Sequence[Size], contents: Sequence[Size]) -> SAMFeatures:
        """The same of other images, which fill so much of SAM's input."""
        return replace(self, sizes=tuple(sizes), contents=tuple(contents))

    @property
    def extents(self) -> Tensor:
        """(B, 2): part of SAM's input that each image fills, (rows, columns) in (0, 1]."""
        device = self.embeddings.device
        contents, whole = (
            constant(sizes, dtype=torch.float32, device=device)
            for sizes in (self.contents, self.input_size)
        )
        return contents / whole


def rows_of(x: Tensor, indices: tuple[int, ...]) -> Tensor:
    """(B, ...) at some of its rows, any of them several times."""
    first, count = (indices or (0,))[0], len(indices)
    if 0 <= first <= len(x) - count and indices == tuple(range(first, first + count)):
        return x[first : first + count]
    return x[constant(indices, dtype=torch.int64, device=x.device)]


def content_size(size: Size, target: Size, resize: str) -> Size:
    """Rows and columns of SAM's input (`target`) that an image of `size` fills."""
    if resize == 'squash':
        return target
    scale = min(have / want for have, want in zip(target, size, strict=True))
    return tuple(
        max(1, min(int(side * scale + 0.5), limit))
        for side, limit in zip(size, target, strict=True)
    )


def fit(image: Tensor, target: Size, resize: str, *, antialias: bool = True) -> Tensor:
    """(3, H, W) to (3, S_h, S_w), smoothly; zeros where the image does not reach."""
    size = content_size(tuple(image.shape[-2:]), target, resize)
    if tuple(image.shape[-2:]) != size:
        image = interpolate(image[None], size=size, mode='bilinear', antialias=antialias)[0]
    down, right = (limit - side for limit, side in zip(target, size, strict=True))
    return pad(image, (0, right, 0, down))


def fit_masks(masks: Tensor, target: Size, resize: str) -> Tensor:
    """Labels (P, H, W) to (P, S_h, S_w) as `fit` places their image, by nearest pixel."""
    size = content_size(tuple(masks.shape[-2:]), target, resize)
    if tuple(masks.shape[-2:]) != size:
        masks = interpolate(masks[:, None].float(), size=size, mode='nearest-exact')[:, 0].to(masks)
    down, right = (limit - side for limit, side in zip(target, size, strict=True))
    return pad(masks, (0, right, 0, down))


def to_input(points: Tensor, features: SAMFeatures) -> Tensor:
    """Points (B, ..., 2), (x, y) in pixels of each image, to pixels of SAM's input."""
    own, filled = (
        constant(sizes, dtype=points.dtype, device=points.device).flip(-1)
        for sizes in (features.sizes, features.contents)
    )
    scale = filled / own
    return points * scale.reshape(-1, *[1] * (points.ndim - 2), 2)


def to_image(
    logits: Tensor, features: SAMFeatures, size: Size | None = None, *, by_input: bool = False
) -> Tensor:
    """Masks over SAM's input back to an image, as SAM does: enlarge, cut the padding off, resize.

    Args:
        logits: (B, ..., h', w') over the whole input.
        features: Of the same B images, all of one size; take `features[i]` where they differ.
        size: (H, W) wanted; the images' own by default.
        by_input: Whether masks without padding are first enlarged to SAM's input, too.

    Returns:
        (B, ..., H, W) in float32.
    """
    if len(set(zip(features.sizes, features.contents, strict=True))) != 1:
        raise ValueError(
            f'to_image: expected images of one size, found {sorted(set(features.sizes))}; '
            'call it with features[i] for one image at a time'
        )
    size, content = size or features.sizes[0], features.contents[0]
    masks = logits.float().flatten(0, -3)[:, None]
    if by_input or content != features.input_size:
        masks = interpolate(masks, size=features.input_size, mode='bilinear')
        masks = masks[..., : content[0], : content[1]]
    masks = interpolate(masks, size=size, mode='bilinear')
    return masks[:, 0].unflatten(0, logits.shape[:-2])


def from_image(
    maps: Tensor,
    features: SAMFeatures,
    size: Size,
    *,
    coverage: Sequence[float] = (1.0, 1.0),
    outside: float | Tensor = 0.0,
) -> Tensor:
    """Maps over the images onto a grid over SAM's input, bilinearly.

    Args:
        maps: (B, P, h', w') over the images.
        size: Rows and columns of the grid wanted.
        coverage: Part of the image's height and width that the maps span from the top left; a
            grid of patches may stop short of the image, or reach past it.
        outside: Value where SAM's input holds no image.

    Returns:
        (B, P, *size).
    """
    filled = set(features.contents) == {features.input_size}
    if filled and tuple(coverage) == (1.0, 1.0) and tuple(maps.shape[-2:]) == tuple(size):
        return maps
    extents = features.extents
    centres = [(torch.arange(n, device=maps.device) + 0.5) / n for n in size]
    y, x = (
        axis / extents[:, i : i + 1].to(maps.device) for i, axis in enumerate(centres)
    )  # (B, n) as parts of the image
    shape = (len(maps), *size)
    y, x = y[:, :, None].expand(shape), x[:, None].expand(shape)
    grid = torch.stack([2 * x / coverage[1] - 1, 2 * y / coverage[0] - 1], dim=-1)
    placed = grid_sample(maps, grid.to(maps.dtype), padding_mode='border', align_corners=False)
    inside = ((y <= 1) & (x <= 1))[:, None]
    if isinstance(outside, Tensor):
        outside = outside.to(placed)
    return torch.where(inside, placed, outside)


def mask_iou(found: Tensor, true: Tensor) -> Tensor:
    """Intersection over union of bool masks (..., H, W); 1 where both are empty."""
    both = (found & true).sum((-2, -1))
    either = (found | true).sum((-2, -1))
    return torch.where(either > 0, both / either.clamp(min=1), 1.0)

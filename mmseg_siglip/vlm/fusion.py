"""Depth maps to statistics on a LLaVA model's own token grid.

Shapes: B maps (H_d, W_d) of any sizes, images (H, W) as the model sees them, grid (h, w), K
statistics.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from transformers import PretrainedConfig
from transformers.image_processing_utils import BaseImageProcessor, select_best_resolution

from mmseg_siglip.patch_stats import patch_statistics
from mmseg_siglip.vlm.naflex import is_naflex
from mmseg_siglip.vlm.processing import get_size
from mmseg_siglip.vlm.vision import token_grid

ALIKE = 0.02
"""Part by which the ratio of a map's sides may differ from its picture's."""


def depth_statistics(
    depths: Sequence[Tensor],
    image_processor: BaseImageProcessor,
    config: PretrainedConfig,
    *,
    sizes: Tensor | None = None,
) -> Tensor:
    """Statistics of each token's part of the picture, for ``depth_statistics`` of the model.

    Args:
        depths: (H_d, W_d) each, metres, of the whole picture that the processor gets, at any
            resolution with at least a pixel a token; 0 or NaN where unknown.
        image_processor: What prepares the image; where it crops or pads, so is depth.
        config: The LLaVA model's, with ``depth_fusion``.
        sizes: (B, 2), what the grid of a picture depends on, as the processor gives it: its height
            and width where it is tiled (``image_sizes``), rows and columns of patches under NaFlex
            (``spatial_shapes``).

    Returns:
        (B, h*w, K) float32, (T, h*w, K) of T tiles, or of NaFlex (N, K) of all N patches; NaN where
        a patch knows nothing, which the fusion takes for average.

    Raises:
        ValueError: The model has no fusion, a map is too small, or `sizes` are not one for each.
    """
    options = getattr(config, 'depth_fusion', None)
    if not options:
        raise ValueError('depth: this model has no depth fusion; see add_depth_fusion')
    for depth in depths:
        if depth.dim() != 2:
            raise ValueError(f'depth: expected (H, W), found {tuple(depth.shape)}')
    naflex = is_naflex(config.vision_config)
    pinpoints = getattr(config, 'image_grid_pinpoints', None)
    if (naflex or pinpoints) and (sizes is None or len(sizes) != len(depths)):
        raise ValueError(
            f"depth: expected the processor's {'spatial_shapes' if naflex else 'image_sizes'} of "
            f'{len(depths)} images as sizes, found {0 if sizes is None else len(sizes)}'
        )
    if naflex:
        grids = [tuple(shape) for shape in sizes.tolist()]
        found = [_of_grid(depth, grid, options) for depth, grid in zip(depths, grids, strict=True)]
        return torch.cat(found)
    size = get_size(image_processor)
    grid = token_grid(config.vision_config, size)
    patch = config.vision_config.patch_size
    covered = tuple(cells * patch / side for cells, side in zip(grid, size, strict=True))
    found = []
    for i, depth in enumerate(depths):
        if pinpoints:
            parts = [depth, *tiles_of(depth, tuple(sizes[i].tolist()), size, pinpoints)]
        elif getattr(image_processor, 'do_pad', False):
            parts = [squared(depth)]
        else:
            parts = [depth]
        for part in parts:
            whole = (0, part.shape[0]), (0, part.shape[1])  # tiles are squeezed, never cropped
            (top, bottom), (left, right) = (
                whole if pinpoints else seen(image_processor, tuple(part.shape))
            )
            bottom = top + round((bottom - top) * covered[0])
            right = left + round((right - left) * covered[1])
            found.append(_of_grid(part[top:bottom, left:right], grid, options))
    return torch.stack(found)


def check_depths(
    depths: Sequence[Tensor],
    pictures: Sequence[tuple[int, int]],
    image_processor: BaseImageProcessor,
    config: PretrainedConfig,
) -> None:
    """Refuse maps that are not of the pictures they come with, or say nothing of them.

    Their resolution is their own. A processor that crops or pads goes by the shape of the picture,
    so that the map needs the same; of others it is refused if it is turned.

    Args:
        depths: (H_d, W_d) each.
        pictures: (H, W) each.
        image_processor: See `depth_statistics`.
        config: Likewise.

    Raises:
        ValueError: One is no tensor, of another shape, or knows no depth.
    """
    by_shape = not is_naflex(config.vision_config) and not hasattr(config, 'image_grid_pinpoints')
    by_shape &= any(getattr(image_processor, name, False) for name in ('do_pad', 'do_center_crop'))
    for i, (depth, (height, width)) in enumerate(zip(depths, pictures, strict=True)):
        if not isinstance(depth, Tensor):
            raise ValueError(
                f'depth: image {i + 1} of {len(depths)}: expected a tensor (H, W), found a '
                f'{type(depth).__name__}'
            )
        if not (depth.isfinite() & (depth > 0)).any():
            raise ValueError(
                f'depth: image {i + 1} of {len(depths)}: expected some depth above 0, found none'
            )
        rows, columns = depth.shape[-2:]
        one_pixel = max(height, width)
        differ = abs(rows * width - columns * height) > one_pixel + ALIKE * rows * width
        turned = (rows - columns) * (height - width) < 0
        if differ and (turned or by_shape):
            raise ValueError(
                f'depth: expected a map of the shape of image {i + 1} of {len(depths)}, '
                f'{height} x {width} (height x width), or smaller or larger as a whole, found '
                f'{rows} x {columns}; maps are not turned by EXIF as images are'
            )


def _of_grid(depth: Tensor, grid: tuple[int, int], options: Mapping) -> Tensor:
    """(H, W) to (h*w, K)."""
    space, names = options.get('space', 'depth'), tuple(options['names'])
    return patch_statistics(depth[None], grid=grid, space=space, names=names).values[0]


def tiles_of(
    depth: Tensor,
    size: tuple[int, int],
    side: tuple[int, int],
    pinpoints: Sequence[Sequence[int]],
) -> list[Tensor]:
    """The part of a depth map under each tile of its picture, row by row.

    The map keeps its resolution; of the margins that the picture is padded with nothing is known.

    Args:
        depth: (H_d, W_d).
        size: (H, W) of the picture.
        side: (height, width) of a tile.
        pinpoints: See `tiled_config`.
    """
    target = select_best_resolution(size, pinpoints)
    scale = min(want / have for want, have in zip(target, size, strict=True))
    drawn = [min(math.ceil(have * scale), want) for want, have in zip(target, size, strict=True)]
    pixels = [d / n for d, n in zip(depth.shape, drawn, strict=True)]
    whole = [round(want * p) for want, p in zip(target, pixels, strict=True)]
    top, left = (
        round((want - n) // 2 * p) for want, n, p in zip(target, drawn, pixels, strict=True)
    )
    canvas = depth.new_zeros(max(whole[0], depth.shape[0]), max(whole[1], depth.shape[1]))
    top, left = (
        min(top, canvas.shape[0] - depth.shape[0]),
        min(left, canvas.shape[1] - depth.shape[1]),
    )
    canvas[top : top + depth.shape[0], left : left + depth.shape[1]] = depth
    rows, columns = (want // one for want, one in zip(target, side, strict=True))
    return [
        part
        for row in canvas.tensor_split(_borders(canvas.shape[0], rows), 0)
        for part in row.tensor_split(_borders(canvas.shape[1], columns), 1)
    ]


def _borders(length: int, parts: int) -> list[int]:
    return [round(i * length / parts) for i in range(1, parts)]


def squared(depth: Tensor) -> Tensor:
    """(H, W) to a square, unknown in the margins, where the picture has its mean colour."""
    side = max(depth.shape)
    top, left = ((side - length) // 2 for length in depth.shape)
    square = depth.new_full((side, side), 0)
    square[top : top + depth.shape[0], left : left + depth.shape[1]] = depth
    return square


def seen(
    processor: BaseImageProcessor, size: tuple[int, int]
) -> tuple[tuple[int, int], tuple[int, int]]:
    """First and last row, and column, of a picture of `size` that a processor leaves."""
    if not getattr(processor, 'do_center_crop', False):
        return (0, size[0]), (0, size[1])
    edge = processor.size['shortest_edge']
    scale = min(size) / edge
    spans = []
    for side, kept in zip(size, get_size(processor), strict=True):
        length = min(round(kept * scale), side)
        start = (side - length) // 2
        spans.append((start, start + length))
    return tuple(spans)

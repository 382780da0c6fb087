"""One stream over the windows of several images, cut into batches.

Shapes: B images (3, H, W) of any sizes; n windows (3, h, w) of a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, groupby, islice
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor

from mmseg_siglip.models.backbones.planes import Dense, Planes
from mmseg_siglip.models.backbones.trunk import View
from mmseg_siglip.models.windows.grid import Windows
from mmseg_siglip.models.windows.stitch import Cells

T = TypeVar('T')


def stream(
    images: Sequence[Tensor],
    windows: Sequence[Windows],
    *,
    batch: int,
    scope: Literal['window', 'image'] = 'window',
    prepare: Callable[[Tensor], Any] | None = None,
    regions: Callable[[int], Tensor | None] = lambda index: None,
) -> Iterator[tuple[Tensor, tuple[View, ...]]]:
    """Batches of windows of one size, (n, 3, h, w), and where they come from.

    Args:
        images: B images.
        windows: Of each.
        batch: Most windows of a batch.
        scope: ``image``: all windows of an image are one batch, however many, and no other's.
        prepare: What is made of a whole image, once, when its first window is due.
        regions: Gives those of an image (H, W), by its index, when its first window is due.
    """
    each = (
        _of_image(index, image, own, prepare, regions(index))
        for index, (image, own) in enumerate(zip(images, windows, strict=True))
    )
    groups = each
    if scope == 'window':
        groups = in_batches(chain.from_iterable(each), batch, key=lambda item: item[0].shape)
    for group in groups:
        crops, views = zip(*group, strict=True)
        yield torch.stack(crops), views


def _of_image(
    index: int,
    image: Tensor,
    windows: Windows,
    prepare: Callable[[Tensor], Any] | None,
    regions: Tensor | None,
) -> Iterator[tuple[Tensor, View]]:
    prepared = prepare(image) if prepare else None
    parts = [None] * len(windows) if regions is None else windows.crops(regions)
    for crop, box, part in zip(windows.crops(image), windows.boxes, parts, strict=True):
        yield crop, View(index, box, prepared, part)


def in_batches(
    items: Iterable[T], batch: int, *, key: Callable[[T], object] = lambda item: item.shape
) -> Iterator[list[T]]:
    """Lists of at most `batch` items that follow one another and have the same key."""
    for _, group in groupby(items, key=key):
        while part := list(islice(group, batch)):
            yield part


def by_image(results: Iterator[Dense], windows: Sequence[Windows]) -> Iterator[Cells]:
    """What a stream's batches (n, ...) became, image by image, (n_y, n_x, ...). There is exactly
    one for each window."""
    done: list[Tensor | Planes] = []
    for own in windows:
        while len(done) < len(own):
            batch = next(results, None)
            assert batch is not None, f'{len(own)} windows of an image have {len(done)} results'
            done.extend(batch)
        found, done = done[: len(own)], done[len(own) :]
        if isinstance(found[0], Tensor):
            yield torch.stack(found).unflatten(0, (len(own.rows), len(own.columns)))
        else:
            yield [*zip(*[iter(found)] * len(own.columns), strict=True)]
    left = len(done) + sum(map(len, results))
    assert not left, f'{left} results belong to no window'

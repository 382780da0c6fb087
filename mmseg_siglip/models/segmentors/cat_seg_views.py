"""The views of an image that are segmented, and the way from their logits to labels.

CAT-Seg's test protocol (https://github.com/cvlab-kaist/CAT-Seg, ``eval.sh``) squashes the image to
a square, cuts four overlapping windows, adds the whole image at a window's size, takes sigmoids,
averages the windows, and averages that with the whole.

Shapes: V views of T words; an image is (3, H, W), its output (H_o, W_o).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from mmseg_siglip.models.decode_heads.cat_seg_head import DROPPED
from mmseg_siglip.models.labelling import Labels, merge_words
from mmseg_siglip.models.windows.stitch import window_starts

MODES = ('whole', 'slide', 'slide_global')
CHUNK_BYTES = 64 * 2**20


def check_test_cfg(config: Mapping, size: Sequence[int]) -> dict:
    """`test_cfg` with what was left out.

    Args:
        config: ``mode``: ``whole``, the image in one piece; ``slide``, the mean of windows;
            ``slide_global``, the mean of that and of the whole image at a window's size.
            ``image_size``: (H, W) that the image is squashed to before it is cut, or None.
            ``crop_size`` and ``stride`` of windows, (rows, columns) in pixels. ``window_batch``:
            views in one forward pass. ``max_classes``: at most so many classes are looked at in a
            view, those with the best cosines; None leaves it to the head. ``return_logits``:
            whether samples carry ``seg_logits``.
        size: The default ``crop_size``.

    Raises:
        ValueError: A key is unknown, or a value is out of range.
    """
    defaults = dict(
        mode='whole',
        image_size=None,
        crop_size=tuple(size),
        stride=None,
        window_batch=4,
        max_classes=None,
        return_logits=False,
    )
    unknown = set(config) - set(defaults)
    if unknown:
        raise ValueError(f'test_cfg: unknown {sorted(unknown)}; expected {", ".join(defaults)}')
    merged = {**defaults, **config}
    merged['crop_size'] = tuple(merged['crop_size'])
    merged['stride'] = tuple(merged['stride'] or (max(s * 2 // 3, 1) for s in merged['crop_size']))
    if merged['image_size'] is not None:
        merged['image_size'] = tuple(merged['image_size'])
    if merged['mode'] not in MODES:
        raise ValueError(
            f'test_cfg.mode: expected one of {", ".join(MODES)}, found {merged["mode"]!r}'
        )
    if any(s < 1 or s > c for s, c in zip(merged['stride'], merged['crop_size'], strict=True)):
        raise ValueError(
            f'test_cfg: expected 1 <= stride <= crop_size, '
            f'found stride {merged["stride"]} and crop_size {merged["crop_size"]}'
        )
    for name in ('window_batch', 'max_classes'):
        if merged[name] is not None and merged[name] < 1:
            raise ValueError(f'test_cfg.{name}: expected 1 or more, found {merged[name]}')
    return merged


@dataclass(frozen=True)
class Views:
    """The views of one image.

    Attributes:
        images: (3, h, w) each; windows first, row by row, then the whole if it is among them.
        size: (H, W) of the image that came in.
        canvas: (H, W) of the image that the windows were cut from.
        rows, columns: First pixels of the windows; empty in mode ``whole``.
        crop: (h, w) of a window.
        whole: Whether the last view is the whole image.
    """

    images: list[Tensor]
    size: tuple[int, int]
    canvas: tuple[int, int]
    rows: list[int]
    columns: list[int]
    crop: tuple[int, int]
    whole: bool

    @classmethod
    def of(cls, image: Tensor, config: Mapping) -> Views:
        """The views that a checked `test_cfg` asks for."""
        size = tuple(image.shape[-2:])
        canvas = config['image_size'] or size
        squashed = _resize(image, canvas)
        if config['mode'] == 'whole':
            return cls([squashed], size, canvas, [], [], canvas, True)
        crop = tuple(map(min, config['crop_size'], canvas))
        rows, columns = (
            window_starts(*side) for side in zip(canvas, crop, config['stride'], strict=True)
        )
        images = [squashed[:, y : y + crop[0], x : x + crop[1]] for y in rows for x in columns]
        whole = config['mode'] == 'slide_global'
        if whole:
            images.append(_resize(image, crop))
        return cls(images, size, canvas, rows, columns, crop, whole)

    def cells(self, size: tuple[int, int]) -> int:
        """Numbers that `probabilities` holds for one word at an output of `size`."""
        pixels = len(self.images) * self.crop[0] * self.crop[1] if self.rows else 0
        return pixels + 2 * self.canvas[0] * self.canvas[1] + size[0] * size[1]

    def probabilities(self, logits: Tensor, size: tuple[int, int]) -> Tensor:
        """(V, T, h, w) to (T, H_o, W_o), each word's probability at an output of `size`."""
        if not self.rows:
            return _resize(logits[0].sigmoid(), size)
        logits = interpolate(logits, size=self.crop, mode='bilinear', align_corners=False)
        views = logits.sigmoid()
        total = views.new_zeros(views.shape[1], *self.canvas)
        count = views.new_zeros(self.canvas)
        for i, y in enumerate(self.rows):
            for j, x in enumerate(self.columns):
                place = (..., slice(y, y + self.crop[0]), slice(x, x + self.crop[1]))
                total[place] += views[i * len(self.columns) + j]
                count[place] += 1
        mean = total / count
        if self.whole:
            mean = (mean + _resize(views[-1], self.canvas)) / 2
        return _resize(mean, size)


def _resize(x: Tensor, size: tuple[int, int]) -> Tensor:
    if tuple(x.shape[-2:]) == tuple(size):
        return x
    return interpolate(x[None], size=tuple(size), mode='bilinear', align_corners=False)[0]


def label_views(
    probabilities: Callable[[Tensor], Tensor],
    logits: Tensor,
    size: tuple[int, int],
    query_to_class: Sequence[int],
    *,
    cells: int,
    return_probabilities: bool = False,
) -> Labels:
    """The likeliest class of each pixel, some words at a time.

    Words that no view looked at are passed over: their probability is 0.

    Args:
        probabilities: Indices of words (N,) to (N, H_o, W_o).
        logits: (V, T, h, w), to see which words were looked at.
        size: (H_o, W_o).
        query_to_class: Class of each word.
        cells: Numbers that `probabilities` holds for a word.
        return_probabilities: Whether all classes' probabilities are kept.
    """
    looked = (logits > DROPPED).flatten(2).any(2).any(0).nonzero()[:, 0]
    best = logits.new_full(size, -1.0)
    words = torch.zeros(size, dtype=torch.long, device=logits.device)
    everything = logits.new_zeros(logits.shape[1], *size) if return_probabilities else None
    for chunk in looked.split(max(1, CHUNK_BYTES // (4 * cells))):
        values = probabilities(chunk)
        if everything is not None:
            everything[chunk] = values
        value, index = values.max(dim=0)
        better = value > best
        best = torch.where(better, value, best)
        words = torch.where(better, chunk[index], words)
    owner = torch.tensor(query_to_class, device=logits.device)
    if everything is not None:
        everything = merge_words(everything, query_to_class)
    return Labels(owner[words], best, everything)

"""The views of an image that are segmented, and the way from their logits to probabilities.

CAT-Seg's test protocol (https://github.com/cvlab-kaist/CAT-Seg, ``eval.sh``) squashes the image to
a square, cuts four overlapping windows, adds the whole image at a window's size, takes sigmoids,
averages the windows, and averages that with the whole.

Shapes: V views of T words; an image is (3, H, W), its output (H_o, W_o).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import interpolate

from mmseg_siglip.models.sizes import pair
from mmseg_siglip.models.windows.grid import Windows
from mmseg_siglip.models.windows.test_cfg import check_test_cfg

MODES = ('whole', 'slide', 'slide_global')


def check_views(config: Mapping, size: tuple[int, int]) -> dict:
    """`check_test_cfg` of views.

    Args:
        config: ``mode``: ``whole``, the image in one piece; ``slide``, the mean of windows;
            ``slide_global``, the mean of that and of the whole image at a window's size.
            ``image_size``: (H, W) that the image is squashed to before it is cut, or None.
            ``crop_size`` and ``stride`` of windows, (rows, columns) in pixels, the stride by
            default two thirds of a window. ``window_batch``: views in one forward pass.
            ``max_classes``: at most so many classes are looked at in a view, those with the best
            cosines; None leaves it to the head. ``return_logits``: whether samples carry
            ``seg_logits``.
        size: The default ``crop_size``.
    """
    crop = pair(config.get('crop_size', size), 'test_cfg.crop_size')
    defaults = dict(
        mode='whole',
        image_size=None,
        crop_size=crop,
        stride=tuple(max(side * 2 // 3, 1) for side in crop),
        window_batch=4,
        max_classes=None,
        return_logits=False,
    )
    return check_test_cfg(config, defaults, modes=MODES)


@dataclass(frozen=True)
class Views:
    """The views of one image.

    Attributes:
        images: (3, h, w) each; windows first, row by row, then the whole if it is among them.
        canvas: (H, W) of the image that the windows were cut from.
        windows: On the canvas.
        with_whole: Whether the last view is the whole image.
    """

    images: list[Tensor]
    canvas: tuple[int, int]
    windows: Windows
    with_whole: bool

    @classmethod
    def of(cls, image: Tensor, config: Mapping) -> Views:
        """The views that `check_views` left."""
        canvas = config['image_size'] or tuple(image.shape[-2:])
        squashed = _resize(image, canvas)
        windows = Windows.of(canvas, config)
        images = list(windows.crops(squashed))
        with_whole = config['mode'] == 'slide_global'
        if with_whole:
            images.append(_resize(image, windows.size))
        return cls(images, canvas, windows, with_whole)

    def cells(self, size: tuple[int, int]) -> int:
        """Numbers that `probabilities` holds for one word at an output of `size`."""
        height, width = self.windows.size
        pixels = 0 if self.windows.whole else len(self.images) * height * width
        return pixels + 2 * self.canvas[0] * self.canvas[1] + size[0] * size[1]

    def probabilities(self, logits: Tensor, size: tuple[int, int]) -> Tensor:
        """(V, T, h, w) to (T, H_o, W_o), each word's probability at an output of `size`."""
        if self.windows.whole:
            return _resize(logits[0].sigmoid(), size)
        logits = interpolate(logits, size=self.windows.size, mode='bilinear', align_corners=False)
        views = logits.sigmoid()
        total = views.new_zeros(views.shape[1], *self.canvas)
        count = views.new_zeros(self.canvas)
        places = zip(self.windows.crops(total), self.windows.crops(count), strict=True)
        for (part, number), view in zip(places, views, strict=False):
            part += view
            number += 1
        mean = total / count
        if self.with_whole:
            mean = (mean + _resize(views[-1], self.canvas)) / 2
        return _resize(mean, size)


def _resize(x: Tensor, size: tuple[int, int]) -> Tensor:
    if tuple(x.shape[-2:]) == tuple(size):
        return x
    return interpolate(x[None], size=tuple(size), mode='bilinear', align_corners=False)[0]

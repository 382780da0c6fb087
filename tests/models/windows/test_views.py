"""Views against the protocol written out pixel by pixel."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import interpolate

from mmseg_siglip.models.windows.views import Views, check_views

SIZE = (8, 8)


def resize(x, size):
    return interpolate(x[None], size=size, mode='bilinear', align_corners=False)[0]


def config(**options):
    return check_views(options, SIZE)


def test_the_whole_image_is_one_view():
    image = torch.randn(3, 10, 14)
    views = Views.of(image, config())
    assert len(views.images) == 1 and torch.equal(views.images[0], image)
    logits = torch.randn(1, 2, 5, 7)
    expected = resize(logits[0].sigmoid(), (20, 28))
    torch.testing.assert_close(views.probabilities(logits, (20, 28)), expected)


@pytest.mark.parametrize('mode', ['slide', 'slide_global'])
@pytest.mark.parametrize('image_size', [None, (12, 12)])
def test_windows_are_averaged_pixel_by_pixel(mode, image_size):
    torch.manual_seed(0)
    image = torch.randn(3, 11, 17)
    views = Views.of(image, config(mode=mode, image_size=image_size, stride=(5, 6)))
    height, width = canvas = image_size or (11, 17)
    squashed = resize(image, canvas) if image_size else image
    places = [(y, x) for y in views.windows.rows for x in views.windows.columns]
    assert len(views.images) == len(places) + (mode == 'slide_global')
    for (y, x), window in zip(places, views.images, strict=False):
        assert torch.equal(window, squashed[:, y : y + 8, x : x + 8])
    logits = torch.randn(len(views.images), 3, 4, 4)
    found = views.probabilities(logits, canvas)
    full = [resize(part, (8, 8)).sigmoid() for part in logits]
    for y in range(height):
        for x in range(width):
            over = [
                full[i][:, y - top, x - left]
                for i, (top, left) in enumerate(places)
                if top <= y < top + 8 and left <= x < left + 8
            ]
            expected = torch.stack(over).mean(0)
            if mode == 'slide_global':
                expected = (expected + resize(full[-1], canvas)[:, y, x]) / 2
            torch.testing.assert_close(found[:, y, x], expected)


@pytest.mark.parametrize(
    ('options', 'sentence'),
    [
        (dict(tta=True), "test_cfg: unknown .'tta'."),
        (dict(mode='both'), "test_cfg.mode: expected one of whole, .*found 'both'"),
        (dict(stride=(9, 9)), 'expected 1 <= stride <= crop_size'),
        (dict(window_batch=0), 'test_cfg.window_batch: expected 1 or more, found 0'),
        (dict(max_classes=0), 'test_cfg.max_classes: expected 1 or more, found 0'),
    ],
)
def test_bad_options_get_one_sentence(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        config(**options)

"""Views and labels, against the protocol written out pixel by pixel."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import interpolate

from mmseg_siglip.models.decode_heads.cat_seg_head import DROPPED
from mmseg_siglip.models.segmentors.cat_seg_views import Views, check_test_cfg, label_views

SIZE = (8, 8)


def resize(x, size):
    return interpolate(x[None], size=size, mode='bilinear', align_corners=False)[0]


def config(**options):
    return check_test_cfg(options, SIZE)


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
    places = [(y, x) for y in views.rows for x in views.columns]
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


@pytest.mark.parametrize('words_at_once', [1, 2, 100])
def test_labels_are_the_best_of_the_words_looked_at(monkeypatch, words_at_once):
    module = 'mmseg_siglip.models.segmentors.cat_seg_views.CHUNK_BYTES'
    monkeypatch.setattr(module, 4 * words_at_once)
    torch.manual_seed(0)
    logits = torch.randn(2, 5, 3, 3)
    logits[:, 3] = DROPPED  # no view looked at it
    chances = torch.rand(5, 6, 7)
    chances[3] = 2.0
    asked = []

    def probabilities(words):
        asked.extend(words.tolist())
        return chances[words]

    owner = [0, 0, 1, 2, 3]
    found = label_views(probabilities, logits, (6, 7), owner, cells=1, return_probabilities=True)
    assert asked == [0, 1, 2, 4]
    best = chances[[0, 1, 2, 4]].argmax(0)
    assert torch.equal(found.labels, torch.tensor([0, 0, 1, 3])[best])
    assert torch.equal(found.scores, chances[[0, 1, 2, 4]].amax(0))
    assert found.probabilities.shape == (4, 6, 7) and (found.probabilities[2] == 0).all()
    torch.testing.assert_close(found.probabilities[0], chances[:2].amax(0))


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

"""S2 against tiles cut and put together one by one."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import interpolate

from mmseg_siglip.vlm.scales import check_scales, multi_scale


def encode(tiles):
    """Something that depends on place: 4x4 patches of 8 pixels, two channels."""
    ramp = torch.linspace(0.5, 1.5, 32)
    tiles = tiles * ramp * ramp[:, None]
    return interpolate(tiles[:, :2], (4, 4), mode='area')


def test_equals_tiles_one_by_one():
    images = torch.randn(2, 3, 96, 96)
    found = multi_scale(encode, images, (1, 3))
    assert found.shape == (2, 4, 4, 4)
    for b in range(2):
        image = images[b : b + 1]
        small = interpolate(image, (32, 32), mode='bicubic')
        torch.testing.assert_close(found[b, :2], encode(small)[0])
        whole = torch.zeros(2, 12, 12)
        for i in range(3):
            for j in range(3):
                tile = image[:, :, 32 * i : 32 * i + 32, 32 * j : 32 * j + 32]
                whole[:, 4 * i : 4 * i + 4, 4 * j : 4 * j + 4] = encode(tile)[0]
        pooled = whole.reshape(2, 4, 3, 4, 3).mean((2, 4))
        torch.testing.assert_close(found[b, 2:], pooled)


def test_bad_scales():
    assert check_scales([1, 2, 4]) == (1, 2, 4)
    for scales in ((2,), (1, 1), (1, 3, 2), ()):
        with pytest.raises(ValueError, match='expected whole factors that rise from 1, found'):
            check_scales(scales)
    with pytest.raises(ValueError, match='expected sides that 2 divides.* found 33x32'):
        multi_scale(encode, torch.zeros(1, 3, 33, 32), (1, 2))

import numpy as np
import pytest
from rle_pack import unpack

from mmseg_siglip.web.brush import encode_brush


@pytest.mark.parametrize('share', [0.0, 0.03, 0.5, 1.0])
@pytest.mark.parametrize('shape', [(1, 1), (3, 5), (40, 70), (260, 130)])
def test_what_label_studio_reads_is_the_mask(shape, share):
    mask = np.random.default_rng(0).random(shape) < share
    values = unpack(encode_brush(mask)).reshape(*shape, 4)
    np.testing.assert_array_equal(values, np.where(mask, 255, 0)[..., None].repeat(4, axis=-1))


def test_bytes_as_label_studio_writes_them():
    """What mask2rle of label_studio_sdk.converter.brush (2.1.2) makes of the same mask."""
    mask = np.zeros((2, 9), bool)
    mask[0, 3:] = True
    assert encode_brush(mask) == [0, 0, 0, 72, 57, 27, 253, 176, 12, 47, 255, 136, 192, 0]

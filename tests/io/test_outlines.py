from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools import mask as coco_mask
from scipy.ndimage import label

from mmseg_siglip.io.outlines import outlines

masks = st.tuples(st.integers(1, 16), st.integers(1, 16)).flatmap(lambda size: arrays(bool, size))


@given(masks, st.integers(1, 3))
def test_cocos_rasteriser_gives_the_mask_again(mask, scale):
    """Each part once: with holes, and islands in these."""
    mask = np.kron(mask, np.ones((scale, scale))) == 1
    found = np.zeros(mask.shape, int)
    rings = outlines(mask)
    for ring in rings:
        assert ring.min() >= 0 and (ring.max(0) <= mask.shape[::-1]).all()
        (rle,) = coco_mask.frPyObjects([ring.ravel().astype(float).tolist()], *mask.shape)
        found += coco_mask.decode(rle)
    assert (found == mask).all()
    assert len(rings) == label(mask, np.ones((3, 3)))[1]


def test_a_pixel_and_a_ring():
    pixel = np.zeros((3, 4), bool)
    pixel[1, 2] = True
    assert {tuple(corner) for corner in outlines(pixel)[0]} == {(2, 1), (3, 1), (3, 2), (2, 2)}
    ring = np.ones((3, 3), bool)
    ring[1, 1] = False
    assert len(outlines(ring)) == 1 and outlines(np.zeros((2, 2), bool)) == []

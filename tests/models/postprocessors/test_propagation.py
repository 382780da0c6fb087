import cv2
import numpy as np
import pytest
import torch
from scipy.sparse.linalg import cg
from torch.testing import assert_close

from mmseg_siglip.models.postprocessors import PixelPropagation
from mmseg_siglip.models.postprocessors.context import Context
from mmseg_siglip.models.postprocessors.propagation import conjugate_gradients, lab


def context(*pixels):
    unused = dict.fromkeys(('features', 'text'), list)
    return Context(query_to_class=range(3), logit_scale=1.0, pixels=lambda: pixels, **unused)


def smooth(*size, seed=0):
    small = torch.rand(1, 3, 3, 3, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(small, size=size, mode='bilinear')[0]


def test_lab_of_known_colours():
    """As tables of sRGB under D65 have them; OpenCV interpolates in a table of its own."""
    known = torch.tensor(
        [
            [[1, 0, 0], [53.2408, 80.0925, 67.2032]],
            [[0, 1, 0], [87.7347, -86.1827, 83.1793]],
            [[0, 0, 1], [32.2970, 79.1875, -107.8602]],
            [[1, 1, 1], [100, 0, 0]],
            [[0, 0, 0], [0, 0, 0]],
        ],
        dtype=torch.float64,
    )
    assert_close(lab(known[:, 0].T[:, None])[:, 0].T, known[:, 1], atol=0.02, rtol=0)
    pixels = torch.rand(3, 20, 30, generator=torch.Generator().manual_seed(0))
    pixels[:, 0] *= 0.02
    rgb = np.ascontiguousarray(pixels.permute(1, 2, 0).numpy())
    wanted = torch.from_numpy(cv2.cvtColor(rgb, cv2.COLOR_RGB2LAB)).permute(2, 0, 1)
    assert_close(lab(pixels.double()).float(), wanted, atol=0.6, rtol=0)


@pytest.mark.parametrize('radius', [1, 2, 20])
def test_equals_the_formula(radius):
    """Pair by pair, and each word solved alone by SciPy."""
    height, width = 6, 9
    pixels = smooth(height, width)
    scores = torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(1))
    colours = lab(pixels.double()) / torch.tensor([100.0, 128, 128])[:, None, None]
    count = height * width
    w = torch.zeros(count, count, dtype=torch.float64)
    for i in range(count):
        for j in range(count):
            (a, b), (c, d) = divmod(i, width), divmod(j, width)
            if i != j and max(abs(a - c), abs(b - d)) <= radius:
                w[i, j] = (-(colours[:, a, b] - colours[:, c, d]).norm() / 0.01).exp()
    root = w.sum(1).rsqrt()
    matrix = (torch.eye(count) - 0.95 * root[:, None] * w * root).numpy()
    step = PixelPropagation(radius=radius)
    found = step(scores, scores, context(pixels, pixels))
    for image, given in zip(found, scores, strict=True):
        for plane, y in zip(image, given, strict=True):
            x = cg(matrix, y.flatten().double().numpy(), rtol=1e-6, maxiter=10)[0]
            assert_close(plane.flatten(), torch.from_numpy(x).float(), atol=1e-5, rtol=1e-4)
    assert step.at == 'image'


def test_each_word_ends_on_its_own():
    """One that is solved at once, one that is zero, one that takes all steps."""
    generator = torch.Generator().manual_seed(0)
    half = torch.randn(12, 12, generator=generator, dtype=torch.float64)
    matrix = half @ half.T + torch.eye(12)
    vectors = torch.linalg.eigh(matrix)[1]
    y = torch.stack([vectors[:, 3], torch.zeros(12), torch.randn(12, generator=generator).double()])
    found = conjugate_gradients(lambda x: x @ matrix, y, 6)
    for row, own in zip(y, found, strict=True):
        wanted = torch.from_numpy(cg(matrix.numpy(), row.numpy(), rtol=1e-6, maxiter=6)[0])
        assert_close(own, wanted, atol=1e-8, rtol=1e-6)
    assert not found[1].any()


@pytest.mark.parametrize('size', [(1, 1), (1, 5), (7, 1), (5, 5)])
def test_small_and_constant_images(size):
    scores = torch.ones(1, 2, *size)
    found = PixelPropagation()(scores, scores, context(torch.full((3, *size), 0.5)))
    assert found.isfinite().all()
    black_white = torch.zeros(3, *size)
    black_white[:, ::2] = 1
    assert PixelPropagation()(scores, scores, context(black_white)).isfinite().all()


def test_bad_input():
    with pytest.raises(ValueError, match='radius of 1 or more and alpha in .*, found 0 and 0.95'):
        PixelPropagation(radius=0)

"""Patch statistics against a loop that does what the words say."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode

from mmseg_siglip.patch_stats.statistics import NAMES, patch_statistics

SPACES = dict(depth=lambda d: d, log=np.log, inverse=lambda d: 1 / d)


def loop(depth, valid, rows, columns, space):
    """(B, N, K) by visiting every pixel of every patch."""
    out = []
    for image, mask in zip(depth, valid, strict=True):
        patches = []
        for top, bottom in pairwise(rows):
            for left, right in pairwise(columns):
                values, lengths = [], []
                for y in range(top, bottom):
                    for x in range(left, right):
                        if not mask[y, x]:
                            continue
                        value = SPACES[space](image[y, x])
                        values.append(value)
                        if y + 1 < bottom and x + 1 < right and mask[y + 1, x] and mask[y, x + 1]:
                            dx = SPACES[space](image[y, x + 1]) - value
                            dy = SPACES[space](image[y + 1, x]) - value
                            lengths.append(np.hypot(dx, dy))
                fraction = len(values) / ((bottom - top) * (right - left))
                if not values:
                    patches.append([np.nan] * 8 + [0.0])
                    continue
                patches.append(
                    [
                        np.mean(values),
                        np.var(values),
                        np.std(values),
                        np.min(values),
                        np.max(values),
                        np.max(values) - np.min(values),
                        np.median(values),
                        np.mean(lengths) if lengths else 0.0,
                        fraction,
                    ]
                )
        out.append(patches)
    return np.array(out)


def maps(size, holes=0.3, seed=0):
    rng = np.random.default_rng(seed)
    depth = rng.uniform(0.5, 9, (3, *size))
    depth[rng.uniform(size=depth.shape) < holes] = 0
    depth[0, : size[0] // 2, : size[1] // 2] = np.nan
    return depth


@pytest.mark.parametrize('space', SPACES)
@pytest.mark.parametrize(
    ('size', 'option', 'rows', 'columns'),
    [
        ((12, 18), dict(patch_size=6), [0, 6, 12], [0, 6, 12, 18]),
        ((10, 14), dict(patch_size=4), [0, 4, 8, 10], [0, 4, 8, 12, 14]),
        ((12, 18), dict(grid=(2, 3)), [0, 6, 12], [0, 6, 12, 18]),
        ((11, 17), dict(grid=(3, 4)), [0, 4, 7, 11], [0, 4, 8, 13, 17]),
        ((7, 5), dict(grid=(7, 5)), list(range(8)), list(range(6))),
    ],
)
def test_equals_the_loop_for_a_batch(size, option, rows, columns, space):
    depth = maps(size)
    if option.get('grid') == (3, 4):
        rows = [round(i * 11 / 3) for i in range(4)]
        columns = [round(i * 17 / 4) for i in range(5)]
    expected = loop(depth, np.nan_to_num(depth) > 0, rows, columns, space)
    got = patch_statistics(torch.tensor(depth), space=space, **option)
    np.testing.assert_allclose(got.values, expected, rtol=1e-5, atol=1e-5)
    assert got.names == NAMES and got.grid == (len(rows) - 1, len(columns) - 1)
    assert got.values.dtype == torch.float32 and got.values.is_contiguous()
    assert got.unit == dict(depth='m', log='log m', inverse='1/m')[space]


def borders(side, cells):
    """Where patches begin and the last ends: whole ones, or as near to equal as pixels allow."""
    return [round(i * side / cells) for i in range(cells + 1)]


@settings(max_examples=60)
@given(st.data())
def test_equals_the_loop_for_any_size(data):
    size = tuple(data.draw(st.integers(1, 13), name) for name in ('height', 'width'))
    depth = maps(size, data.draw(st.floats(0, 1), 'holes'), data.draw(st.integers(0, 99), 'seed'))
    space = data.draw(st.sampled_from(sorted(SPACES)), 'space')
    if data.draw(st.booleans(), 'by grid'):
        grid = tuple(data.draw(st.integers(1, side), 'cells') for side in size)
        option = dict(grid=grid)
        rows, columns = map(borders, size, grid)
    else:
        patch = data.draw(st.integers(1, 15), 'patch_size')
        option = dict(patch_size=patch)
        rows, columns = ([*range(0, side, patch), side] for side in size)
    expected = loop(depth, np.nan_to_num(depth) > 0, rows, columns, space)
    got = patch_statistics(torch.tensor(depth), space=space, **option)
    np.testing.assert_allclose(got.values, expected, rtol=1e-5, atol=1e-5)
    for index in range(len(depth)):
        alone = patch_statistics(torch.tensor(depth[index : index + 1]), space=space, **option)
        assert torch.equal(alone.values[0].nan_to_num(-1), got.values[index].nan_to_num(-1))


def test_row_major_and_token_counts_of_models():
    depth = torch.arange(1.0, 7.0).view(1, 2, 3).repeat_interleave(4, 1).repeat_interleave(4, 2)
    got = patch_statistics(depth, patch_size=4, names=['mean'])
    assert got.values.flatten().tolist() == [1, 2, 3, 4, 5, 6]
    for size, option, count in (
        (384, dict(grid=(27, 27)), 729),
        (378, dict(patch_size=14), 729),
        (384, dict(patch_size=16), 576),
        (224, dict(patch_size=16), 196),
    ):
        got = patch_statistics(torch.ones(2, size, size), names=['valid_fraction'], **option)
        assert got.values.shape == (2, count, 1) and (got.values == 1).all()


def test_gradient_stays_inside_its_patch():
    depth = torch.ones(1, 4, 8)
    depth[..., 4:] = 100
    got = patch_statistics(depth, patch_size=4, names=['grad', 'var'])
    assert got.values.abs().sum() == 0
    ramp = torch.arange(1.0, 5.0).expand(1, 4, 4)
    assert patch_statistics(ramp, patch_size=4, names=['grad']).values.item() == 1


def test_a_mask_a_channel_and_a_fill_value():
    depth, valid = torch.rand(2, 1, 4, 4) + 1, torch.ones(2, 1, 4, 4, dtype=torch.bool)
    valid[0, :, :2, :2] = False
    got = patch_statistics(depth, grid=(2, 2), valid=valid, fill=0.0, names=['max', 'var'])
    assert (got.values[0, 0] == 0).all() and torch.isfinite(got.values).all()
    assert got.values[1, 0, 0] == depth[1, 0, :2, :2].max()


def test_variance_is_biased_and_not_spoilt_by_far_depth():
    depth = torch.tensor([[[80.0, 80.001], [80.002, 80.003]]], dtype=torch.float64)
    got = patch_statistics(depth, patch_size=2, names=['var']).values.item()
    assert got == pytest.approx(1.25e-6, rel=1e-4)


@pytest.mark.parametrize('device', ['cpu', 'cuda'])
@pytest.mark.parametrize('option', [dict(grid=(3, 2)), dict(patch_size=5)])
def test_everything_stays_on_the_device_of_the_depth(device, option):
    """With tensors that have a device but no data, so no GPU is needed."""
    with FakeTensorMode():
        got = patch_statistics(torch.rand(2, 16, 12, device=device), **option).values
        assert got.device.type == device and got.shape == (2, len(got[0]), len(NAMES))


@pytest.mark.parametrize(
    ('options', 'sentence'),
    [
        (dict(), 'expected patch_size or grid, found None and None'),
        (dict(patch_size=2, grid=(2, 2)), r'expected patch_size or grid, found 2 and \(2, 2\)'),
        (dict(patch_size=0), 'patch_size: expected 1 or more, found 0'),
        (dict(grid=(5, 2)), r'expected 1 to 4 x 1 to 4 patches, found \(5, 2\)'),
        (dict(grid=(2, 2), space='disparity'), "expected one of depth, .* found 'disparity'"),
        (dict(grid=(2, 2), names=['mode']), 'expected some of mean, .* found mode'),
        (dict(grid=(2, 2), names=[]), 'found none'),
        (dict(grid=(2, 2), valid=torch.ones(2, 4, 4)), r'expected the shape of depth \(1, 4, 4\)'),
    ],
)
def test_bad_options_get_one_sentence(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        patch_statistics(torch.ones(1, 4, 4), **options)


def test_bad_shape_gets_one_sentence():
    with pytest.raises(ValueError, match=r'expected \(B, H, W\) or \(B, 1, H, W\), found \(4, 4\)'):
        patch_statistics(torch.ones(4, 4), patch_size=2)

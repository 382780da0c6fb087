"""Depth maps say what they are; who takes them for something else is told."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from mmseg_siglip.api.results import DepthMap
from mmseg_siglip.datasets.transforms import LoadDepthAnnotation
from mmseg_siglip.evaluation import DepthMetric
from mmseg_siglip.io.depth_unit import is_one_of, write_depth
from mmseg_siglip.io.image import decode_depth

DEPTH = np.array([[0.5, 2.0]], np.float32)
IMAGE = np.zeros((1, 2, 3), np.uint8)


def read(path, **options):
    return decode_depth(path.read_bytes(), path.name, **options)


@pytest.mark.parametrize('scale', [0.0, -1.0, float('nan'), float('inf')])
def test_units_a_metre_are_a_positive_number(tmp_path, scale):
    with pytest.raises(ValueError, match='scale: expected units a metre, a positive number, found'):
        DepthMap(DEPTH, 'metre', IMAGE).save(tmp_path / 'd.png', scale=scale)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('values', [(), (0.1,), (65535, 0.1), (2**24 + 1,)])
def test_values_are_found_at_the_precision_of_the_map(values):
    units = np.array([[1.5, *values]], np.float32)  # as a file holds them
    assert is_one_of(units, values).tolist() == [[False] + [True] * len(values)]


def test_values_that_a_map_of_integers_cannot_hold():
    units = np.array([[65535, 7]], np.uint16)
    assert is_one_of(units, (-1, 65535, 1e9, 7.5)).tolist() == [[True, False]]


def test_relative_depth_is_not_read_as_metres(tmp_path):
    DepthMap(1 / DEPTH, 'inverse', IMAGE).save(tmp_path / 'd.png')
    with pytest.raises(ValueError, match='^d.png: expected metric depth, found relative depth, wh'):
        read(tmp_path / 'd.png')


def test_the_unit_of_a_map_of_ours(tmp_path):
    DepthMap(DEPTH, 'metre', IMAGE).save(tmp_path / 'a.png', scale=256)
    metric = DepthMetric(output_dir=str(tmp_path), format_only=True, depth_scale_factor=256)
    prediction = dict(data=torch.from_numpy(DEPTH)[None])
    metric.process({}, [dict(pred_depth_map=prediction, img_path='b.jpg')])
    metric.writers.finish()
    for name in ('a.png', 'b.png'):
        for options in ({}, dict(per_metre=256.0)):
            assert read(tmp_path / name, **options).tolist() == [[128, 512]]
        with pytest.raises(ValueError, match=f'^{name}: expected 1000 units per metre, found a fi'):
            read(tmp_path / name, per_metre=1000)
        results = dict(depth_map_path=str(tmp_path / name))
        np.testing.assert_array_equal(
            LoadDepthAnnotation(depth_rescale_factor=1 / 256)(results)['gt_depth_map'], DEPTH
        )
        with pytest.raises(ValueError, match='expected 1000 units per metre, found .* has 256'):
            LoadDepthAnnotation(depth_rescale_factor=1e-3)(results)


def test_maps_of_others_say_nothing(tmp_path):
    Image.fromarray(np.array([[7]], np.uint16)).save(tmp_path / 'd.png')
    assert read(tmp_path / 'd.png', per_metre=5).tolist() == [[7]]
    write_depth(np.array([[7]], np.uint16), tmp_path / 'd.png', per_metre='many')
    assert read(tmp_path / 'd.png', per_metre=5).tolist() == [[7]]

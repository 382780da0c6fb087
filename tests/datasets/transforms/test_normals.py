"""Normals as truth: of scenes whose geometry is known, mirrored, and where something is missing."""

from __future__ import annotations

import numpy as np
import pytest
from mmengine.dataset import Compose
from mmengine.registry import DefaultScope

from mmseg_siglip.datasets.shapes_world.scene import (
    GROUND_FAR,
    GROUND_NEAR,
    generate,
)
from mmseg_siglip.datasets.transforms import LoadShapesDepth, NormalsFromDepth
from mmseg_siglip.registry import SCOPE


def loaded(seed=0, size=(96, 128)):
    scene = generate(seed, size=size)
    results = dict(scene=scene, img=scene.image, img_shape=size, ori_shape=size)
    return scene, NormalsFromDepth().transform(LoadShapesDepth().transform(results))


def test_shapes_world_has_two_orientations():
    """Its shapes face the camera; its ground is one plane, 1 / depth linear in rows."""
    scene, results = loaded()
    normals, (height, width) = results['gt_normal_map'], scene.depth.shape
    assert normals.shape == (height, width, 3) and normals.dtype == np.float32
    assert results['seg_fields'] == ['gt_depth_map', 'gt_normal_map']
    focal, centre = min(height, width), height / 2 - 0.5
    slope = (1 / GROUND_NEAR - 1 / GROUND_FAR) / height
    ground = np.array([0, slope * focal, 1 / GROUND_FAR + slope * (centre + 0.5)])
    ground /= np.linalg.norm(ground)
    known = np.linalg.norm(normals, axis=-1) > 0
    assert known.mean() > 0.99
    for place, expected in ((scene.instances > 0, [0, 0, 1]), (scene.instances == 0, ground)):
        cosine = (normals[place & known] @ expected).clip(-1, 1)
        degrees = np.degrees(np.arccos(cosine))
        # Where one shape overlaps another at nearly its depth, a plane lies across both.
        assert np.quantile(degrees, 0.98) < 0.1 and degrees.max() < 5
    assert ground[1] > 0.05


@pytest.mark.parametrize(
    ('direction', 'axes', 'turned'),
    [
        ('horizontal', 1, (-1, 1, 1)),
        ('vertical', 0, (1, -1, 1)),
        ('diagonal', (0, 1), (-1, -1, 1)),
    ],
)
def test_mirrored_pictures_have_turned_normals(direction, axes, turned):
    """As if the mirrored depth had been looked at by a mirrored camera."""
    _, results = loaded()
    before = results['gt_normal_map']
    with DefaultScope.overwrite_default_scope(SCOPE):
        pipeline = Compose(
            [dict(type='RandomFlip', prob=1.0, direction=direction), dict(type='PackSegInputs')]
        )
        packed = pipeline(dict(results))
    found = packed['data_samples'].gt_normal_map.data
    expected = np.flip(before, axes) * np.float32(turned)
    np.testing.assert_array_equal(found.permute(1, 2, 0), expected)
    again = dict(results, gt_depth_map=np.flip(results['gt_depth_map'], axes), seg_fields=[])
    np.testing.assert_allclose(
        NormalsFromDepth().transform(again)['gt_normal_map'], expected, atol=1e-4
    )


def test_crops_and_sizes_follow():
    _, results = loaded()
    with DefaultScope.overwrite_default_scope(SCOPE):
        pipeline = Compose(
            [
                dict(type='Resize', scale=(64, 48)),
                dict(type='RandomCrop', crop_size=(32, 40)),
                dict(type='PackSegInputs'),
            ]
        )
        sample = pipeline(dict(results))['data_samples']
    assert sample.gt_normal_map.data.shape == (3, 32, 40)
    assert sample.gt_depth_map.data.shape == (1, 32, 40)
    lengths = sample.gt_normal_map.data.norm(dim=0)
    assert (((lengths - 1).abs() < 1e-5) | (lengths == 0)).all()


def test_what_is_missing_gets_one_sentence():
    depth = np.ones((8, 8), np.float32)
    with pytest.raises(ValueError, match='a.png: NormalsFromDepth expected intrinsics, found none'):
        NormalsFromDepth().transform(dict(gt_depth_map=depth, img_path='a.png'))
    camera = NormalsFromDepth(intrinsics=(8, 8, 4, 4))
    with pytest.raises(ValueError, match='NormalsFromDepth expected gt_depth_map, found none'):
        camera.transform(dict(img_path='a.png'))
    with pytest.raises(ValueError, match='expected NormalsFromDepth before mirroring'):
        camera.transform(dict(gt_depth_map=depth, flip=True))
    assert 'intrinsics=(8, 8, 4, 4), radius=2' in repr(camera)

"""Normals as truth: of scenes whose geometry is known, mirrored, and where something is missing."""

from __future__ import annotations

import numpy as np
import pytest
from mmengine.dataset import Compose
from mmengine.registry import DefaultScope
from PIL import Image

from mmseg_siglip.datasets.shapes_world.scene import (
    GROUND_FAR,
    GROUND_NEAR,
    generate,
)
from mmseg_siglip.datasets.surface_normals import normals_from_depth
from mmseg_siglip.datasets.transforms import LoadNormals, LoadShapesDepth, NormalsFromDepth
from mmseg_siglip.io.normal_colours import normal_colours
from mmseg_siglip.registry import SCOPE


def loaded(seed=0, size=(96, 128)):
    scene = generate(seed, size=size)
    results = dict(scene=scene, img=scene.image, img_shape=size, ori_shape=size)
    return scene, NormalsFromDepth().transform(LoadShapesDepth().transform(results))


def random_normals(size):
    normals = np.random.default_rng(0).normal(size=(*size, 3)).astype(np.float32)
    return normals / np.linalg.norm(normals, axis=-1, keepdims=True)


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
    again = normals_from_depth(np.flip(results['gt_depth_map'], axes), results['intrinsics'])
    np.testing.assert_allclose(again, expected, atol=1e-4)


CAMERA = (150.0, 110.0, 50.0, 40.0)
TOWARDS = np.array([0.3, -0.5, -np.sqrt(0.66)])
"""A plane's normal to the right, downwards, forwards."""


def plane(camera, towards, size):
    """Depth of the plane 2 m away whose normal is that."""
    rows, columns = np.mgrid[: size[0], : size[1]].astype(float)
    focal_x, focal_y, centre_x, centre_y = camera
    ray = [(columns - centre_x) / focal_x, (rows - centre_y) / focal_y, np.ones(size)]
    return (-2 / np.einsum('khw,k->hw', ray, towards)).astype(np.float32)


@pytest.mark.parametrize('own', [True, False])
@pytest.mark.parametrize(
    ('direction', 'turned'),
    [('horizontal', (-1, 1, 1)), ('vertical', (1, -1, 1)), ('diagonal', (-1, -1, 1))],
)
def test_a_slanted_plane_keeps_its_normal(direction, turned, own):
    """Seen by a camera of oblong pixels, resized out of proportion, cropped and mirrored; and that
    is the normal that the camera which follows the picture would measure."""
    size, width, height, left, top = (96, 128), 80, 72, 8, 4
    depth = plane(CAMERA, TOWARDS, size)
    camera = dict(intrinsics=CAMERA) if own else {}
    results = dict(
        img=np.zeros((*size, 3), np.uint8), img_shape=size, ori_shape=size, gt_depth_map=depth,
        intrinsics=(1, 1, 0, 0) if own else CAMERA, seg_fields=['gt_depth_map'],
    )  # fmt: skip
    steps = [
        dict(type='NormalsFromDepth', **camera),
        dict(type='Resize', scale=(width, height)),
        dict(type='RandomCrop', crop_size=(40, 48)),
        dict(type='RandomFlip', prob=1.0, direction=direction),
        dict(type='PackSegInputs'),
    ]
    with DefaultScope.overwrite_default_scope(SCOPE):
        found = Compose(steps)(results)['data_samples'].gt_normal_map.data.permute(1, 2, 0)
    expected = TOWARDS * (1, -1, -1) * turned
    np.testing.assert_allclose(found, np.broadcast_to(expected, found.shape), atol=2e-3)
    np.testing.assert_allclose(np.linalg.norm(found, axis=-1), 1, atol=1e-6)

    across, down = width / size[1], height / size[0]
    centre_x, centre_y = (CAMERA[2] + 0.5) * across - 0.5, (CAMERA[3] + 0.5) * down - 0.5
    camera = [CAMERA[0] * across, CAMERA[1] * down, centre_x - left, centre_y - top]
    camera[2] = 47 - camera[2] if turned[0] < 0 else camera[2]
    camera[3] = 39 - camera[3] if turned[1] < 0 else camera[3]
    seen = plane(camera, TOWARDS * turned, (40, 48))
    np.testing.assert_allclose(normals_from_depth(seen, camera), found, atol=2e-3)


def test_normals_move_with_the_picture():
    """An image that shows its normals shows them still, but for their turn."""
    _, results = loaded()
    normals = random_normals((96, 128))
    results |= dict(gt_normal_map=normals, img=normal_colours(normals))
    steps = [
        dict(type='RandomCrop', crop_size=(40, 48)),
        dict(type='RandomFlip', prob=1.0, direction='horizontal'),
        dict(type='Pad', size=(60, 64), pad_val=dict(img=0, seg=0)),
        dict(type='PackSegInputs'),
    ]
    with DefaultScope.overwrite_default_scope(SCOPE):
        packed = Compose(steps)(results)
    found = packed['data_samples'].gt_normal_map.data.permute(1, 2, 0).numpy()
    image = packed['inputs'].permute(1, 2, 0).numpy()
    assert found.shape == image.shape == (64, 60, 3)
    shown = normal_colours(found * [-1, 1, 1]).astype(int)
    np.testing.assert_allclose(shown[:40, :48], image[:40, :48], atol=1)
    assert not found[40:].any() and not found[:, 48:].any()


@pytest.mark.parametrize(
    'step',
    [
        dict(type='RandomFlip', prob=1.0),
        dict(type='Resize', scale=(40, 30)),
        dict(type='RandomCrop', crop_size=(32, 40)),
        dict(type='RandomRotFlip', rotate_prob=1.0),
        dict(type='RandomRotate', prob=1.0, degree=9, seg_pad_val=0),
        dict(type='KBCrop'),
    ],
    ids=lambda step: step['type'],
)
def test_a_moved_map_has_another_camera(step):
    size = (360, 1220) if step['type'] == 'KBCrop' else (48, 64)
    scene = generate(0, size=size)
    results = dict(scene=scene, img=scene.image, img_shape=size, ori_shape=size)
    steps = [dict(type='LoadShapesDepth'), step, dict(type='NormalsFromDepth')]
    with (
        DefaultScope.overwrite_default_scope(SCOPE),
        pytest.raises(ValueError, match='expected NormalsFromDepth directly behind what loads'),
    ):
        Compose(steps)(results)
    if step['type'] in ('Resize', 'KBCrop', 'RandomCrop'):
        with DefaultScope.overwrite_default_scope(SCOPE):
            found = Compose([steps[0], steps[2], step])(results)
        assert found['gt_normal_map'].shape[:2] == found['gt_depth_map'].shape != size


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
    with pytest.raises(ValueError, match='expected one transform that gives gt_normal_map, found'):
        camera.transform(camera.transform(dict(gt_depth_map=depth)))
    assert 'intrinsics=(8, 8, 4, 4), radius=2' in repr(camera)


@pytest.mark.parametrize('axes', [(1, 1, 1), (-1, 1, -1)])
def test_normals_from_a_picture(tmp_path, axes):
    """As `NormalMap.save` and `NormalMetric` write them; black and grey are none."""
    normals = random_normals((9, 12))
    picture = normal_colours(normals)
    picture[0, 0], picture[0, 1], picture[0, 2] = 0, 128, 255
    Image.fromarray(picture).save(tmp_path / 'a.normals.png')
    load = LoadNormals(axes=axes)
    found = load.transform(dict(img_path=str(tmp_path / 'a.jpg'), ori_shape=(9, 12)))
    assert found['seg_fields'] == ['gt_normal_map']
    result = found['gt_normal_map']
    assert result.dtype == np.float32 and not result[0, :3].any()
    np.testing.assert_allclose(result[1:], normals[1:] * axes, atol=0.012)
    np.testing.assert_allclose(np.linalg.norm(result[1:], axis=-1), 1, atol=1e-6)
    elsewhere = LoadNormals(folder=str(tmp_path), axes=axes)
    again = elsewhere.transform(dict(img_path='b/a.jpg'))['gt_normal_map']
    np.testing.assert_array_equal(again, result)


def test_a_picture_that_is_not_of_normals(tmp_path):
    image = str(tmp_path / 'a.jpg')
    with pytest.raises(ValueError, match=r'a\.normals\.png cannot be read: No such file'):
        LoadNormals().transform(dict(img_path=image))
    Image.new('RGB', (12, 9)).save(tmp_path / 'a.normals.png')
    with pytest.raises(ValueError, match=r'a\.normals\.png: expected normals as red, green and b'):
        LoadNormals().transform(dict(img_path=image))
    with pytest.raises(
        ValueError, match=r'a\.normals\.png is 9 x 12 .* its image .*a\.jpg is 10 x 12'
    ):
        LoadNormals().transform(dict(img_path=image, ori_shape=(10, 12)))
    with pytest.raises(ValueError, match='axes: expected three of 1 and -1, found'):
        LoadNormals(axes=(1, 2, 1))
    Image.fromarray(normal_colours(random_normals((9, 12)))).save(tmp_path / 'a.normals.png')
    with pytest.raises(ValueError, match='expected normals before the picture is mirrored'):
        LoadNormals().transform(dict(img_path=image, flip=True))
    assert "suffix='.png'" in repr(LoadNormals(suffix='.png'))

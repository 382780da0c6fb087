"""Loading depth: units, invalid values, and everything that is no depth map."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from mmseg_siglip.datasets import ShapesWorldDataset
from mmseg_siglip.datasets.transforms import KBCrop, LoadDepthAnnotation, LoadShapesDepth
from mmseg_siglip.registry import TRANSFORMS


@pytest.fixture
def write(tmp_path):
    def write(array, name='d.png'):
        path = tmp_path / name
        Image.fromarray(array).save(path)
        return dict(
            depth_map_path=str(path), img_path='i.jpg', ori_shape=array.shape[:2], seg_fields=[]
        )

    return write


def millimetres(*rows):
    return np.array(rows, np.uint16)


def test_metres_and_zero_where_there_is_none(write):
    load = LoadDepthAnnotation(depth_rescale_factor=1e-3, invalid_values=[65535], max_depth=10)
    results = load(write(millimetres([1500, 0], [65535, 2250])))
    expected = np.array([[1.5, 0], [0, 2.25]], np.float32)
    np.testing.assert_allclose(results['gt_depth_map'], expected, rtol=1e-6)
    assert results['gt_depth_map'].dtype == np.float32
    assert results['seg_fields'] == ['gt_depth_map']


def test_the_data_sets_unit_counts_unless_the_transform_has_one(write):
    said = dict(depth_rescale_factor=1 / 256, invalid_values=(9,), max_depth=100)
    results = LoadDepthAnnotation()(dict(write(millimetres([512, 9])), **said))
    np.testing.assert_allclose(results['gt_depth_map'], [[2, 0]])
    results = LoadDepthAnnotation(depth_rescale_factor=0.5)(
        dict(write(millimetres([8, 9])), **said)
    )
    np.testing.assert_allclose(results['gt_depth_map'], [[4, 0]])


def test_float_files(write):
    depth = np.array([[1.25, np.nan], [-1, np.inf]], np.float32)
    results = LoadDepthAnnotation()(write(depth, 'd.tiff'))
    np.testing.assert_allclose(results['gt_depth_map'], [[1.25, 0], [0, 0]])


def test_values_that_mean_none_are_found_in_32_bits(write):
    depth = np.array([[1.25, 0.1], [-9.9, 2]], np.float32)  # 0.1 is no number of either precision
    results = LoadDepthAnnotation(invalid_values=[0.1, -9.9])(write(depth, 'd.tiff'))
    np.testing.assert_allclose(results['gt_depth_map'], [[1.25, 0], [0, 2]])


def test_depth_is_loaded_before_what_moves_the_image(write):
    def load(*steps):
        image = np.zeros((2, 2, 3), np.uint8)
        results = write(millimetres([1, 2], [3, 4])) | dict(img=image, img_shape=(2, 2))
        for step in (*steps, dict(type='LoadDepthAnnotation'), dict(type='PackSegInputs')):
            results = TRANSFORMS.build(step)(results)
        return results['data_samples']

    assert 'truth_upright' not in load(dict(type='Resize', scale=(4, 4)))
    assert load(dict(type='RandomFlip', prob=1.0, direction='horizontal')).truth_upright
    for name, options in (
        ('RandomCrop', dict(crop_size=(1, 1))),
        ('CenterCrop', dict(crop_size=(1, 1))),
        ('Pad', dict(size=(4, 4))),
    ):
        with pytest.raises(ValueError, match=f'd.png: expected LoadDepthAnnotation before {name}'):
            load(dict(type=name, **options))


def test_bad_depth_gets_one_sentence(write):
    load = LoadDepthAnnotation(depth_rescale_factor=1e-3, max_depth=10)
    with pytest.raises(ValueError, match=r'd.png is 2 x 2 .*, but its image i.jpg is 4 x 2'):
        load(dict(write(millimetres([1, 2], [3, 4])), ori_shape=(4, 2)))
    with pytest.raises(ValueError, match='d.png: expected some valid depth, found none'):
        load(write(millimetres([0, 0])))
    LoadDepthAnnotation(allow_empty=True)(write(millimetres([0, 0])))
    with pytest.raises(ValueError, match='16-bit or float values, found mode L'):
        load(write(np.full((2, 2), 9, np.uint8)))
    with pytest.raises(ValueError, match='16-bit or float values, found mode RGB'):
        load(write(np.zeros((2, 2, 3), np.uint8)))
    sentence = 'expected depth up to 10 m, found a median of 2000 m; is 1 m the unit of the file'
    with pytest.raises(ValueError, match=sentence):
        LoadDepthAnnotation(max_depth=10)(write(millimetres([2000, 2000, 3000])))
    with pytest.raises(ValueError, match='none.png cannot be read'):
        load(dict(depth_map_path='none.png'))


def test_single_far_pixels_are_no_mistaken_unit(write):
    load = LoadDepthAnnotation(depth_rescale_factor=1e-3, max_depth=10)
    results = load(write(millimetres([2000, 2000, 30000])))
    np.testing.assert_allclose(results['gt_depth_map'], [[2, 2, 30]], rtol=1e-6)


def test_kb_crop_is_the_lowest_and_central_part():
    image = np.arange(375 * 1242 * 3, dtype=np.int64).reshape(375, 1242, 3)
    results = dict(img=image, gt_depth_map=image[..., 0].copy(), seg_fields=['gt_depth_map'])
    cropped = KBCrop()(results)
    np.testing.assert_array_equal(cropped['img'], image[23:, 13:1229])
    np.testing.assert_array_equal(cropped['gt_depth_map'], image[23:, 13:1229, 0])
    assert cropped['ori_shape'] == cropped['img_shape'] == (352, 1216)
    with pytest.raises(ValueError, match='expected at least 352 x 1216 .* found 100 x 1300'):
        KBCrop()(dict(img=np.zeros((100, 1300, 3))))


def test_shapes_depth_is_the_scenes_and_is_mirrored_with_the_image():
    dataset = ShapesWorldDataset(num_scenes=2)
    info = dataset.get_data_info(1)
    truth = info['scene'].depth.copy()
    results = LoadShapesDepth()(dict(info))
    assert 'gt_seg_map' not in results
    flip = TRANSFORMS.build(dict(type='mmseg.RandomFlip', prob=1.0))
    np.testing.assert_array_equal(flip(results)['gt_depth_map'], truth[:, ::-1])
    assert truth.min() >= 2 and truth.max() <= 12


def test_resizing_keeps_depth_values_as_they_are(write):
    depth = np.kron(millimetres([1000, 3000], [2000, 0]), np.ones((4, 4), np.uint16))
    results = LoadDepthAnnotation(depth_rescale_factor=1e-3)(write(depth))
    results.update(img=np.zeros((8, 8, 3), np.uint8))
    resize = TRANSFORMS.build(dict(type='mmseg.Resize', scale=(5, 5)))
    assert set(np.unique(resize(results)['gt_depth_map'])) <= {0, 1, 2, 3}


@pytest.mark.parametrize('unit', [0, -1, float('nan'), float('inf')])
def test_a_unit_that_is_none(write, unit):
    """By 0 all would be unknown, which is looked for before."""
    sentence = 'd.png: depth_rescale_factor: expected metres per unit, a positive number, found'
    with pytest.raises(ValueError, match=sentence):
        LoadDepthAnnotation(depth_rescale_factor=unit)(write(millimetres([2000])))

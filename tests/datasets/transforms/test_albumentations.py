"""The package need not be installed: what is asked of it here is what it does by OpenCV."""

from __future__ import annotations

from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from mmengine.registry import init_default_scope
from mmseg.datasets.transforms import transforms as mmseg

from mmseg_siglip.registry import TRANSFORMS

WIDE = 65535


class Shift:
    """Moves image and mask by some columns, as ``ShiftScaleRotate`` does: `fill` is uncovered."""

    def __init__(self, columns, fill=0):
        self.columns, self.fill = columns, fill

    def __call__(self, image, mask=None):
        move = np.array([[1, 0, self.columns], [0, 1, 0]], np.float32)
        size = image.shape[1::-1]
        moved = dict(image=cv2.warpAffine(image, move, size))
        if mask is not None:
            moved['mask'] = cv2.warpAffine(
                mask, move, size, flags=cv2.INTER_NEAREST, borderValue=self.fill
            )
        return moved


class Crop:
    def __call__(self, image, mask=None):
        return dict(image=image[:4]) | ({} if mask is None else dict(mask=mask[:4]))


def compose(transforms):
    def run(**given):
        for transform in transforms:
            given = transform(**given)
        return given

    return run


@pytest.fixture
def installed(monkeypatch):
    init_default_scope('mmseg_siglip')
    monkeypatch.setattr(mmseg, 'ALBU_INSTALLED', True)
    monkeypatch.setattr(mmseg, 'Compose', compose)
    monkeypatch.setattr(mmseg, 'albumentations', SimpleNamespace(Shift=Shift, Crop=Crop))


def scene(values, ignore_index=WIDE):
    labels = np.resize(np.array(values, np.int32), (8, 10))
    image = np.stack([labels % 251, labels % 241, labels % 239], -1).astype(np.uint8)
    return dict(
        img=image,
        img_path='a.jpg',
        img_shape=(8, 10),
        gt_seg_map=labels,
        ignore_index=ignore_index,
        seg_fields=['gt_seg_map'],
    )


def run(results, *transforms, **options):
    return TRANSFORMS.build(dict(type='Albu', transforms=transforms, **options))(results)


@pytest.mark.parametrize('fill', [0, 255])
@pytest.mark.parametrize('values', [(0, 3, 255, 300, 846), range(1000, 1300), (WIDE, 7)])
def test_labels_stay_and_what_is_uncovered_counts_nowhere(installed, values, fill):
    before = scene(values)
    found = run(scene(values), dict(type='Shift', columns=2, fill=fill if len(values) < 80 else 0))
    assert found['gt_seg_map'].dtype == np.int32
    assert (found['gt_seg_map'][:, :2] == WIDE).all()
    assert np.array_equal(found['gt_seg_map'][:, 2:], before['gt_seg_map'][:, :-2])
    assert np.array_equal(found['img'][:, 2:], before['img'][:, :-2])


def test_sizes_and_what_has_no_labels(installed):
    found = run(scene((0, 1), 255), dict(type='Crop'), update_pad_shape=True)
    assert found['img'].shape == (4, 10, 3) and found['gt_seg_map'].shape == (4, 10)
    assert found['img_shape'] == (4, 10) and found['pad_shape'] == (4, 10, 3)
    bare = {key: value for key, value in scene((0,)).items() if key in ('img', 'img_path')}
    assert run(bare, dict(type='Crop'))['img_shape'] == (4, 10)


@pytest.mark.parametrize('key', ['gt_depth_map', 'regions', 'text'])
def test_nothing_is_left_behind(installed, key):
    results = scene((0, 1)) | {key: np.zeros((8, 10))}
    results['seg_fields'] = ['gt_seg_map'] + ([key] if key == 'gt_depth_map' else [])
    with pytest.raises(ValueError, match=f'Albu would turn a.jpg and leave its {key} behind'):
        run(results, dict(type='Crop'))
    with pytest.raises(ValueError, match='Albu: expected keymap=.*, found'):
        run(scene((0, 1)), dict(type='Crop'), keymap=dict(img='image'))


def test_a_package_that_is_missing_is_named(monkeypatch):
    init_default_scope('mmseg_siglip')
    monkeypatch.setattr(mmseg, 'ALBU_INSTALLED', False)
    with pytest.raises(ValueError, match='Albu: expected the package albumentations, which is not'):
        run(scene((0, 1)), dict(type='Crop'))

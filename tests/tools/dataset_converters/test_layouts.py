from __future__ import annotations

import numpy as np
import pytest
from layouts import LAYOUTS, write_layout
from PIL import Image

IMAGE = np.random.default_rng(0).integers(0, 256, (2, 3, 3), dtype=np.uint8)


def files(root):
    return sorted(str(path.relative_to(root)) for path in root.rglob('*') if path.is_file())


@pytest.mark.parametrize(
    ('name', 'values', 'expected', 'names'),
    [
        (
            'voc21',
            [0, 1, 20, -1],
            [0, 1, 20, 255],
            [
                'ImageSets/Segmentation/val.txt',
                'JPEGImages/2007_000001.jpg',
                'SegmentationClass/2007_000001.png',
            ],
        ),
        ('voc20', [0, 19, -1, 5], [1, 20, 0, 6], None),
        ('context59', [0, 58, -1, 5], [1, 59, 0, 6], None),
        ('context60', [0, 59, -1, 5], [0, 59, 255, 5], None),
        ('context459', [0, 458, -1, 300], [0, 458, 65535, 300], None),
        (
            'coco_object',
            [0, 80, -1, 5],
            [0, 80, 255, 5],
            [
                'annotations/val2017/000000000001_instanceTrainIds.png',
                'images/val2017/000000000001.jpg',
            ],
        ),
        (
            'coco_stuff',
            [0, 170, -1, 5],
            [0, 170, 255, 5],
            [
                'annotations/val2017/000000000001_labelTrainIds.png',
                'images/val2017/000000000001.jpg',
            ],
        ),
        ('coco_stuff10k', [0, 170, -1, 5], [1, 171, 0, 6], None),
        (
            'cityscapes',
            [0, 18, -1, 5],
            [0, 18, 255, 5],
            [
                'gtFine/val/frankfurt/frankfurt_000000_000001_gtFine_labelTrainIds.png',
                'leftImg8bit/val/frankfurt/frankfurt_000000_000001_leftImg8bit.png',
            ],
        ),
        (
            'ade20k',
            [0, 149, -1, 5],
            [1, 150, 0, 6],
            [
                'annotations/validation/ADE_val_00000001.png',
                'images/validation/ADE_val_00000001.jpg',
            ],
        ),
        ('ade847', [0, 846, -1, 300], [0, 846, 65535, 300], None),
        ('camvid', [0, 10, -1, 5], [0, 10, 11, 5], None),
        (
            'loveda',
            [0, 6, -1, 5],
            [1, 7, 0, 6],
            ['ann_dir/val/1.png', 'img_dir/val/1.png'],
        ),
        ('potsdam', [0, 5, -1, 3], [1, 6, 0, 4], None),
        ('vaihingen', [0, 5, -1, 3], [1, 6, 0, 4], None),
        (
            'isaid',
            [0, 15, -1, 5],
            [0, 15, 255, 5],
            [
                'ann_dir/val/P0001_0_896_0_896_instance_color_RGB.png',
                'img_dir/val/P0001_0_896_0_896.png',
            ],
        ),
        (
            'openearthmap',
            [0, 7, -1, 5],
            [1, 8, 0, 6],
            ['aachen/images/aachen_1.tif', 'aachen/labels/aachen_1.tif', 'val.txt'],
        ),
        (
            'uavid',
            [0, 7, -1, 1],
            [[0, 0, 0], [64, 0, 128], [255, 255, 255], [128, 0, 0]],
            ['uavid_val/seq16/Images/000001.png', 'uavid_val/seq16/Labels/000001.png'],
        ),
        ('udd5', [0, 4, -1, 3], [0, 4, 255, 3], ['val/gt/DJI_0001.png', 'val/src/DJI_0001.JPG']),
        ('vdd', [0, 6, -1, 3], [0, 6, 255, 3], ['val/gt/org001.png', 'val/src/org001.JPG']),
    ],
)
def test_values_and_names(tmp_path, name, values, expected, names):
    image = np.zeros((1, 4, 3), np.uint8)
    write_layout(name, tmp_path, [(image, np.array([values]))])
    label = next(
        tmp_path / file
        for file in files(tmp_path)
        if any(word in file for word in ('ann', 'gt', 'Class', 'abels'))
    )
    assert np.asarray(Image.open(label)).tolist() == [expected]
    if names is not None:
        assert files(tmp_path) == names


def test_every_layout_is_tested():
    marks = test_values_and_names.pytestmark[0]
    assert {row[0] for row in marks.args[1]} == set(LAYOUTS)


def test_a_list_with_suffixes(tmp_path):
    write_layout('openearthmap', tmp_path, [(IMAGE, np.full((2, 3), 2))] * 2)
    assert (tmp_path / 'val.txt').read_text().split() == ['aachen_1.tif', 'aachen_2.tif']


def test_split_file_and_palette(tmp_path):
    write_layout('voc21', tmp_path, [(IMAGE, np.full((2, 3), 2))] * 2)
    stems = (tmp_path / 'ImageSets/Segmentation/val.txt').read_text().split()
    assert stems == ['2007_000001', '2007_000002']
    label = Image.open(tmp_path / 'SegmentationClass/2007_000002.png')
    assert label.mode == 'P' and label.convert('RGB').getpixel((0, 0)) == (0, 128, 0)


def test_class_ids(tmp_path):
    labels = np.array([[0, 1, 2], [-1, 0, 1]], np.int8)
    write_layout('cityscapes', tmp_path, [(IMAGE, labels)], class_ids=[10, -1, 18])
    (path,) = tmp_path.glob('gtFine/val/*/*.png')
    assert np.asarray(Image.open(path)).tolist() == [[10, 255, 18], [255, 10, 255]]


@pytest.mark.parametrize(
    ('name', 'image', 'labels', 'class_ids', 'message'),
    [
        ('voc22', IMAGE, np.zeros((2, 3)), None, "no layout 'voc22', there are voc20, voc21"),
        ('voc20', IMAGE, np.zeros((3, 2)), None, r'sample 1: image uint8 \(2, 3, 3\), expected'),
        (
            'voc20',
            IMAGE,
            np.full((2, 3), 20),
            None,
            'labels 20 to 20, but voc20 has classes 0 to 19',
        ),
        ('voc20', IMAGE, np.full((2, 3), -2), None, 'labels -2 to -2'),
        ('voc20', IMAGE, np.full((2, 3), 1), [5], r'class 1 has no entry in class_ids \(5,\)'),
    ],
)
def test_bad_samples(tmp_path, name, image, labels, class_ids, message):
    with pytest.raises(ValueError, match=message):
        write_layout(name, tmp_path, [(image, labels)], class_ids=class_ids)

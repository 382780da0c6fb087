from __future__ import annotations

import os
import warnings

import numpy as np
import pytest
from mmengine.registry import init_default_scope
from PIL import Image

from mmseg_siglip.datasets.transforms import (
    LoadAnnotations,
    LoadDepthAnnotation,
    LoadImageFromFile,
)
from mmseg_siglip.registry import TRANSFORMS

RNG = np.random.default_rng(0)


@pytest.fixture
def files(tmp_path):
    """Write an image and a label map; gives the results dict a dataset would."""

    def write(labels, image_size=None, **more):
        height, width = image_size or labels.shape[:2]
        image = tmp_path / 'image.png'
        Image.fromarray(RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(image)
        path = tmp_path / 'labels.png'
        Image.fromarray(labels).save(path)
        return dict(img_path=str(image), seg_map_path=str(path), seg_fields=[], **more)

    return write


def run(results, *, image=(), labels=()):
    results = LoadImageFromFile(**dict(image)).transform(results)
    return LoadAnnotations(**dict(labels)).transform(results)


def test_names_win_in_our_scope():
    assert TRANSFORMS.get('LoadImageFromFile') is LoadImageFromFile
    assert TRANSFORMS.get('LoadAnnotations') is LoadAnnotations
    assert TRANSFORMS.get('mmseg.LoadAnnotations') is not LoadAnnotations


def test_image_and_labels(files):
    labels = np.array([[0, 1, 255], [20, 3, 254]], np.uint8)
    results = run(files(labels))
    assert results['img'].shape == (2, 3, 3) and results['img'].dtype == np.uint8
    assert results['img_shape'] == results['ori_shape'] == (2, 3)
    assert results['gt_seg_map'].dtype == np.int32
    assert results['gt_seg_map'].tolist() == labels.tolist()
    assert results['seg_fields'] == ['gt_seg_map']


def test_float_image(files):
    results = run(files(np.zeros((2, 2), np.uint8)), image=dict(to_float32=True))
    assert results['img'].dtype == np.float32 and results['img'].max() > 1


def test_labels_above_255_classes(files):
    labels = np.array([[0, 300, 846, 65535]], np.uint16)
    results = run(files(labels), labels=dict(ignore_index=65535))
    assert results['gt_seg_map'].tolist() == labels.tolist()


def test_labels_above_the_ignore_index_are_refused(files):
    results = files(np.array([[0, 300]], np.uint16))
    with pytest.raises(ValueError, match='holds label 300, above ignore_index=255; .*65535'):
        run(results)


@pytest.mark.parametrize(
    ('dtype', 'ignore_index', 'values', 'expected'),
    [
        (np.uint8, 255, [0, 1, 150, 254, 255], [255, 0, 149, 253, 255]),
        (np.uint16, 65535, [0, 1, 255, 256, 847, 65535], [65535, 0, 254, 255, 846, 65535]),
        (np.uint8, -1, [0, 1, 255], [-1, 0, 254]),
    ],
)
def test_reduce_zero_label(files, dtype, ignore_index, values, expected):
    results = files(np.array([values], dtype), reduce_zero_label=True)
    results = run(results, labels=dict(ignore_index=ignore_index))
    assert results['gt_seg_map'].tolist() == [expected]


def test_reduce_zero_label_agrees_with_mmseg_on_eight_bits(files):
    labels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    ours = run(files(labels, reduce_zero_label=True))['gt_seg_map']
    theirs = TRANSFORMS.get('mmseg.LoadAnnotations')()
    results = theirs(files(labels, reduce_zero_label=True))
    differing = labels[ours != results['gt_seg_map']].tolist()
    assert differing == []


def test_reduce_zero_label_must_agree_with_the_dataset(files):
    results = files(np.zeros((1, 1), np.uint8), reduce_zero_label=False)
    with pytest.raises(ValueError, match='says reduce_zero_label=True, the dataset False'):
        run(results, labels=dict(reduce_zero_label=True))


def test_label_map(files):
    labels = np.array([[7, 13, 200, 255]], np.uint8)
    label_map = {7: 13, 13: 7, 200: 255}
    assert run(files(labels, label_map=label_map))['gt_seg_map'].tolist() == [[13, 7, 255, 255]]
    with pytest.raises(ValueError, match='holds label 200, which the dataset does not define'):
        run(files(labels, label_map={7: 0, 13: 1}))


def test_size_mismatch_names_both_files(files):
    results = files(np.zeros((4, 6), np.uint8), image_size=(6, 4))
    with pytest.raises(ValueError, match=r'labels\.png is 4 x 6 .*image\.png is 6 x 4'):
        run(results)


def test_size_is_compared_with_the_original_not_the_resized(files):
    results = LoadImageFromFile().transform(files(np.zeros((40, 60), np.uint8)))
    results = TRANSFORMS.build(dict(type='Resize', scale=(2048, 80), keep_ratio=True))(results)
    assert results['img'].shape[:2] == (80, 120)
    assert LoadAnnotations().transform(results)['gt_seg_map'].shape == (40, 60)


def test_exif_is_ignored_for_annotated_images_and_refused_on_request(files, tmp_path):
    results = files(np.zeros((4, 6), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new('RGB', (6, 4)).save(tmp_path / 'image.jpg', exif=exif)
    results['img_path'] = str(tmp_path / 'image.jpg')
    assert run(dict(results))['img'].shape == (4, 6, 3)
    with pytest.raises(ValueError, match=r'apply_exif=True would turn .*image\.jpg'):
        run(dict(results), image=dict(apply_exif=True))
    del results['seg_map_path']
    assert LoadImageFromFile(apply_exif=True).transform(results)['img'].shape == (6, 4, 3)


def test_missing_file_and_folder(tmp_path):
    missing = str(tmp_path / 'none.jpg')
    with pytest.raises(ValueError, match=r'none\.jpg cannot be read: No such file'):
        LoadImageFromFile().transform(dict(img_path=missing))
    with pytest.raises(ValueError, match=r'none\.jpg cannot be read: No such file'):
        LoadAnnotations().transform(dict(seg_map_path=missing))
    with pytest.raises(ValueError, match='cannot be read: Is a directory'):
        LoadImageFromFile().transform(dict(img_path=str(tmp_path)))


def test_an_address_that_no_backend_reads_is_refused():
    with pytest.raises(ValueError, match=r'^data/ftp://host/a.jpg cannot be read: MMEngine has no'):
        LoadImageFromFile()(dict(img_path='data/ftp://host/a.jpg'))


def test_a_pipe_and_a_device_are_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / 'pipe.jpg')
    (tmp_path / 'zero.jpg').symlink_to('/dev/zero')
    for name, kind in (('pipe.jpg', 'named pipe'), ('zero.jpg', 'device')):
        with pytest.raises(ValueError, match=f'{name} is a {kind}, expected a regular file'):
            LoadImageFromFile().transform(dict(img_path=str(tmp_path / name)))


@pytest.mark.parametrize('max_pixels', [0, 10**9])
def test_max_pixels_range(max_pixels):
    with pytest.raises(ValueError, match=f'max_pixels={max_pixels} must lie in'):
        LoadImageFromFile(max_pixels=max_pixels)


CROP = dict(type='RandomCrop', crop_size=(48, 48), cat_max_ratio=0.75, ignore_index=65535)
PAD = dict(type='Pad', size=(96, 96), pad_val=dict(img=0, seg=65535))


@pytest.mark.parametrize(
    'transform',
    [
        dict(type='Resize', scale=(90, 30)),
        dict(type='Resize', scale=(90, 90), keep_ratio=True),
        dict(type='RandomResize', scale=(80, 80), ratio_range=(0.5, 2.0), keep_ratio=True),
        dict(type='RandomFlip', prob=1.0),
        dict(type='RandomRotate', prob=1.0, degree=(20, 20), seg_pad_val=65535),
        dict(type='ResizeToMultiple', size_divisor=32),
        dict(type='GenerateEdge', ignore_index=65535),
        CROP,
        PAD,
    ],
    ids=lambda transform: transform['type'],
)
def test_training_transforms_keep_wide_labels_exact(files, transform):
    """Every pixel that comes out is a label that went in, also above 255 and 32767."""
    init_default_scope('mmseg_siglip')
    labels = RNG.choice(np.array([0, 255, 256, 846, 40000, 65534], np.uint16), (64, 64))
    results = run(files(labels), labels=dict(ignore_index=65535))
    results = TRANSFORMS.build(transform)(results)
    found = set(np.unique(results['gt_seg_map']).tolist())
    wanted = set(np.unique(labels).tolist())
    assert found - {65535} == wanted
    packed = TRANSFORMS.build(dict(type='PackSegInputs'))(results)
    data = packed['data_samples'].gt_sem_seg.data
    assert str(data.dtype) == 'torch.int64'
    assert set(data.unique().tolist()) == found


def test_training_pipeline_moves_image_and_labels_together(files, tmp_path):
    init_default_scope('mmseg_siglip')
    labels = np.kron(RNG.integers(0, 60000, (4, 4)), np.ones((16, 16))).astype(np.uint16)
    results = files(labels)
    red_green = np.stack([labels // 256, labels % 256, labels * 0], -1).astype(np.uint8)
    Image.fromarray(red_green).save(results['img_path'])
    results = run(results, labels=dict(ignore_index=65535))
    flip = dict(type='RandomFlip', prob=1.0, direction='diagonal')
    resize = dict(type='Resize', scale=(128, 128), interpolation='nearest')
    for transform in (resize, flip, CROP, PAD):
        results = TRANSFORMS.build(transform)(results)
    inside = results['gt_seg_map'] != 65535
    bgr = results['img'].astype(int)
    assert inside.sum() == 48 * 48
    assert np.array_equal((bgr[..., 2] * 256 + bgr[..., 1])[inside], results['gt_seg_map'][inside])


@pytest.mark.parametrize(
    ('loader', 'key'),
    [
        (LoadAnnotations(), 'seg_map_path'),
        (LoadDepthAnnotation(), 'depth_map_path'),
    ],
)
def test_an_annotation_that_the_data_set_lacks(loader, key):
    name = type(loader).__name__
    sentence = rf'{name}: expected {key} of a.jpg .* set data_prefix.{key}, or leave {name} out'
    for results in (dict(img_path='a.jpg'), {'img_path': 'a.jpg', key: None}):
        with pytest.raises(ValueError, match=sentence):
            loader.transform(results)


@pytest.mark.parametrize('told', [{}, dict(label_colours={(0, 0, 0): 0})])
def test_labels_in_a_jpeg_are_refused(tmp_path, told):
    path = str(tmp_path / 'a.png')
    Image.new('L', (8, 8)).save(path, 'JPEG')
    with pytest.raises(ValueError, match='a.png is a JPEG, whose compression changes labels'):
        LoadAnnotations().transform(dict(seg_map_path=path, **told))


@pytest.mark.parametrize('key', ['seg_map_path', 'depth_map_path', 'mask_sources', None])
@pytest.mark.parametrize('orientation', [None, 1, 3])
def test_an_annotated_image_that_is_stored_turned_is_told(tmp_path, key, orientation):
    exif = Image.Exif()
    if orientation is not None:
        exif[274] = orientation
    path = str(tmp_path / 'a.jpg')
    Image.new('RGB', (8, 6)).save(path, exif=exif)
    results = dict(img_path=path, **({key: 'a.png'} if key else {}))
    if key and orientation == 3:
        with pytest.warns(UserWarning, match='a.jpg has EXIF orientation 3 and is read as'):
            LoadImageFromFile().transform(results)
        return
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        LoadImageFromFile().transform(results)


def test_transparent_pixels_of_coloured_labels_are_not_white(tmp_path):
    """Where white is a class, as in Potsdam, they would all be of it."""
    path = str(tmp_path / 'a.png')
    picture = Image.new('RGBA', (8, 6), (255, 255, 255, 255))
    told = dict(seg_map_path=path, label_colours={(255, 255, 255): 3, (255, 0, 0): 1})
    picture.save(path)
    assert (LoadAnnotations().transform(dict(told))['gt_seg_map'] == 3).all()
    picture.paste((255, 0, 0, 0), (0, 0, 4, 6))
    picture.save(path)
    with pytest.raises(ValueError, match='a.png has transparent pixels, which are read as white'):
        LoadAnnotations().transform(dict(told))

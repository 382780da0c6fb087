"""Depth data sets: pairs of a folder, KITTI's lists, and real frames where they are given."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from mmseg_siglip.datasets import KITTIDepthDataset, NYUDataset, RGBDDataset
from mmseg_siglip.datasets import depth as depth_data

PIPELINE = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadDepthAnnotation'),
    dict(type='PackSegInputs'),
]


@pytest.fixture(autouse=True)
def scope():
    from mmengine.registry import init_default_scope

    init_default_scope('mmseg_siglip')


def write(image, depth, units=1000, size=(6, 8)):
    image.parent.mkdir(parents=True, exist_ok=True)
    depth.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((*size, 3), np.uint8)).save(image)
    Image.fromarray(np.full(size, 2 * units, np.uint16)).save(depth)


def test_pairs_by_name(tmp_path):
    for i in (2, 0, 1):
        write(tmp_path / f'f{i}.color.png', tmp_path / f'f{i}.depth.png')
    names = dict(img_suffix='.color.png', depth_map_suffix='.depth.png')
    dataset = RGBDDataset(
        data_root=str(tmp_path), **names, max_depth=5, indices=[1, 2], pipeline=PIPELINE
    )
    assert len(dataset) == 2 and dataset[0]['data_samples'].img_path.endswith('f1.color.png')
    assert dataset[0]['data_samples'].gt_depth_map.data.unique().tolist() == [2.0]


def test_pairs_in_two_folders_with_prefixes(tmp_path):
    write(tmp_path / 'rgb/a/rgb_01.png', tmp_path / 'depth/a/sync_depth_01.png', 500)
    dataset = RGBDDataset(
        data_root=str(tmp_path),
        data_prefix=dict(img_path='rgb', depth_map_path='depth'),
        img_suffix='.png',
        img_prefix='rgb_',
        depth_map_prefix='sync_depth_',
        depth_scale=500,
        pipeline=PIPELINE,
    )
    assert dataset[0]['data_samples'].gt_depth_map.data.unique().tolist() == [2.0]


def test_missing_files_get_one_sentence(tmp_path):
    with pytest.raises(ValueError, match=r'expected images named \*.jpg, found none'):
        RGBDDataset(data_root=str(tmp_path))
    write(tmp_path / 'a.jpg', tmp_path / 'elsewhere.png')
    with pytest.raises(
        ValueError, match=r'1 of 1 images have no .*depth map: a.jpg; expected .*a\.png'
    ):
        RGBDDataset(data_root=str(tmp_path))
    with pytest.raises(ValueError, match='depth_scale: expected a positive number, found 0'):
        RGBDDataset(data_root=str(tmp_path), depth_scale=0)


def test_kitti_lists(tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(depth_data, 'print_log', lambda text, _: said.append(text))
    image, depth = 'day/drive/image_02/data/1.png', 'drive/groundtruth/image_02/1.png'
    write(tmp_path / 'raw' / image, tmp_path / 'depth' / depth, 256, (375, 1242))
    lines = [f'{image} {depth} 721.5377', f'{image} None 721.5377', '']
    (tmp_path / 'split.txt').write_text('\n'.join(lines))
    dataset = KITTIDepthDataset(
        data_root=str(tmp_path),
        ann_file='split.txt',
        pipeline=[*PIPELINE[:2], dict(type='KBCrop'), PIPELINE[2]],
    )
    assert len(dataset) == 1
    assert said == [f'{tmp_path / "split.txt"}: 1 of 2 images have no depth map and are left out']
    packed = dataset[0]
    assert packed['inputs'].shape == (3, 352, 1216)
    truth = packed['data_samples'].gt_depth_map.data
    assert truth.shape == (1, 352, 1216) and truth.unique().tolist() == [2.0]


def test_bad_kitti_lists_get_one_sentence(tmp_path):
    def build():
        return KITTIDepthDataset(data_root=str(tmp_path), ann_file='split.txt')

    with pytest.raises(ValueError, match='split.txt cannot be read: No such file'):
        build()
    (tmp_path / 'split.txt').write_text('a.png b.png 7\nonly-one\n')
    with pytest.raises(ValueError, match="line 2: expected .* found 'only-one'"):
        build()
    (tmp_path / 'split.txt').write_text('a.png None 7\n')
    with pytest.raises(ValueError, match='expected images with depth maps, found none'):
        build()


REAL = {
    'rgbd-7scenes': (63, (480, 640), dict(img_suffix='.color.jpg', depth_map_suffix='.depth.png',
                                          invalid_values=[65535], max_depth=10)),
    'nyu_demo': (3, (480, 640), dict(data_prefix=dict(img_path='rgb', depth_map_path='depth'),
                                     img_prefix='rgb_', depth_map_prefix='sync_depth_',
                                     max_depth=10)),
    'kitti_demo': (3, None, dict(data_prefix=dict(img_path='rgb', depth_map_path='depth'),
                                 img_suffix='.png', depth_scale=256, max_depth=80)),
}  # fmt: skip


@pytest.mark.parametrize('name', REAL)
def test_real_frames(real_data, name):
    count, size, options = REAL[name]
    dataset = RGBDDataset(data_root=str(real_data / name), pipeline=PIPELINE, **options)
    assert len(dataset) == count
    for index in (0, count - 1):
        packed = dataset[index]
        truth = packed['data_samples'].gt_depth_map.data[0]
        assert truth.shape == packed['inputs'].shape[1:] == (size or truth.shape)
        valid = truth[truth > 0]
        low, high = (1, 100) if name == 'kitti_demo' else (0.3, 11)
        assert low < valid.min() and valid.max() < high and len(valid) > 1000


def test_lists_and_other_kinds_of_images(tmp_path):
    for name in ('a.jpg', 'b.JPG', 'c.png'):
        write(tmp_path / 'rgb' / name, tmp_path / 'depth' / f'{name[0]}.png')
    (tmp_path / 'val.txt').write_bytes(b'\xef\xbb\xbfc\r\n\r\na.jpg\r\n')
    folders = dict(img_path='rgb', depth_map_path='depth')
    for kind in (RGBDDataset, NYUDataset):
        given = dict(data_root=str(tmp_path), data_prefix=folders)
        every = kind(**given)
        images = [every.get_data_info(i)['img_path'].rpartition('/')[2] for i in range(len(every))]
        assert images == ['a.jpg', 'b.JPG', 'c.png']
        some = kind(ann_file='val.txt', **given)
        pairs = [some.get_data_info(i) for i in range(len(some))]
        names = [[p[k].rpartition('/')[2] for k in ('img_path', 'depth_map_path')] for p in pairs]
        assert names == [['c.png', 'c.png'], ['a.jpg', 'a.png']]
        with pytest.raises(ValueError, match='indices: expected some of its 3 samples, found 4'):
            kind(indices=4, **given)
    (tmp_path / 'rgb/b.JPG').unlink()
    for kind in (RGBDDataset, NYUDataset):
        with pytest.raises(ValueError, match='1 of 3 label or depth maps have no image'):
            kind(**given)


def test_files_that_a_kitti_list_names_are_looked_for(tmp_path):
    write(tmp_path / 'raw/1.png', tmp_path / 'depth/1.png', 256)
    given = dict(data_root=str(tmp_path), ann_file='split.txt')
    for line, sentence in (
        ('1.png 1.png 7\n2.png 1.png 7', '1 of the 2 images that it names are not there: .*2.png'),
        ('1.png 2.png 7', '1 of the 1 depth maps that it names are not there: .*2.png'),
    ):
        (tmp_path / 'split.txt').write_text(line)
        with pytest.raises(ValueError, match=f'split.txt: {sentence}'):
            KITTIDepthDataset(**given)


def test_what_a_kitti_list_names_twice_is_said(tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(
        'mmseg_siglip.datasets.name_lists.print_log', lambda text, *_: said.append(text)
    )
    write(tmp_path / 'raw/a.png', tmp_path / 'depth/a.png', 256)
    (tmp_path / 'split.txt').write_text('a.png a.png 7\na.png a.png 7\n')
    assert len(KITTIDepthDataset(data_root=str(tmp_path), ann_file='split.txt')) == 2
    assert said == [
        f'{tmp_path}/split.txt names 1 images more than once, which count as often: a.png'
    ]


@pytest.mark.parametrize('scale', [0, -1, float('nan'), float('inf')])
def test_a_scale_that_is_none(tmp_path, scale):
    with pytest.raises(ValueError, match='depth_scale: expected a positive number, found'):
        RGBDDataset(data_root=str(tmp_path), depth_scale=scale)

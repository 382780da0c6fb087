from __future__ import annotations

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import init_default_scope
from PIL import Image

from mmseg_siglip.datasets import GroupedFolderDataset
from mmseg_siglip.registry import DATASETS


@pytest.fixture
def build(tmp_path):
    for group, stem in (('b', '1'), ('a', '2'), ('a', '10')):
        for folder in ('images', 'labels'):
            path = tmp_path / group / folder / f'{stem}.tif'
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((2, 3), int(stem), np.uint8)).save(path)
    (tmp_path / 'a/images/notes.txt').touch()

    def build(**options):
        given = dict(image_folder='images', label_folder='labels', img_suffix='.tif')
        given |= dict(seg_map_suffix='.tif', vocabulary=['cat', 'dog'], data_root=str(tmp_path))
        return GroupedFolderDataset(**given | options)

    return build


def names(dataset):
    return [
        tuple('/'.join(item[key].split('/')[-3:]) for key in ('img_path', 'seg_map_path'))
        for item in (dataset.get_data_info(i) for i in range(len(dataset)))
    ]


def test_each_image_has_the_label_of_its_group(build):
    pairs = ['a/{}/10.tif', 'a/{}/2.tif', 'b/{}/1.tif']
    wanted = [(pair.format('images'), pair.format('labels')) for pair in pairs]
    assert names(build()) == wanted
    assert names(build(indices=1)) == wanted[:1]


def test_a_list_chooses_and_may_name_what_is_not_there(build, tmp_path):
    (tmp_path / 'val.txt').write_text('1.tif\nxbd_1.tif\n10.tif\n')
    dataset = build(ann_file='val.txt')
    assert [image for image, _ in names(dataset)] == ['a/images/10.tif', 'b/images/1.tif']


def test_a_name_of_two_images_is_refused(build, tmp_path):
    for folder in ('images', 'labels'):
        (tmp_path / 'b' / folder / '10.tif').write_bytes(
            (tmp_path / 'a' / folder / '10.tif').read_bytes()
        )
    assert len(build()) == 4
    (tmp_path / 'val.txt').write_text('1.tif\n10.tif\n')
    with pytest.raises(ValueError, match=r'val.txt: 10 is of several images, .*a/.* and .*b/'):
        build(ann_file='val.txt')


def test_nothing_there_is_said(build, tmp_path):
    with pytest.raises(ValueError, match=r'expected images <group>/Images/\*\.tif, found none'):
        build(image_folder='Images')
    (tmp_path / 'val.txt').write_text('3.tif\n')
    with pytest.raises(ValueError, match=r'that .*val\.txt lists, found none'):
        build(ann_file='val.txt')


def test_openearthmap_as_it_is_published(repository, tmp_path):
    """Regions, GeoTIFF, 0 for unknown, and a list that names images of another source, too."""
    init_default_scope('mmseg_siglip')
    for place, value in (('aachen', 1), ('tokyo', 8)):
        for folder in ('images', 'labels'):
            (tmp_path / place / folder).mkdir(parents=True)
        Image.new('RGB', (4, 2), (9, 8, 7)).save(tmp_path / place / f'images/{place}_1.tif')
        labels = np.array([[0, value, value, value]] * 2, np.uint8)
        Image.fromarray(labels).save(tmp_path / place / f'labels/{place}_1.tif')
    (tmp_path / 'val.txt').write_text('aachen_1.tif\ntokyo_1.tif\nmoore-tornado_1.tif\n')
    config = Config.fromfile(repository / 'configs/_base_/datasets/openearthmap.py')
    dataset = DATASETS.build(dict(config.test_dataloader.dataset, data_root=str(tmp_path)))
    found = [item['data_samples'].gt_sem_seg.data[0, 0].tolist() for item in dataset]
    assert found == [[255, 0, 0, 0], [255, 7, 7, 7]]
    assert dataset.metainfo['classes'][7] == 'building'

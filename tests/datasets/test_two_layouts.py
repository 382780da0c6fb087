"""Both forms of the published labels give the same classes; mixing them up is refused."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from mmseg_siglip.datasets import paired_files, two_layouts
from mmseg_siglip.datasets.transforms import LoadAnnotations, LoadImageFromFile
from mmseg_siglip.registry import DATASETS

LOADING = [LoadImageFromFile(), LoadAnnotations()]
# dataset, values in the original file, those in the prepared one, class indices wanted
CASES = [
    ('ADE20KDataset', [0, 1, 150], [255, 0, 149], [255, 0, 149]),
    ('PascalContextDataset59', [0, 1, 59], [255, 0, 58], [255, 0, 58]),
    ('PascalVOC20Dataset', [0, 1, 20, 255], [255, 0, 19, 255], [255, 0, 19, 255]),
    ('PascalVOC20bDataset', [0, 1, 20, 255], [20, 0, 19, 255], [20, 0, 19, 255]),
]


def load(tmp_path, kind, values, folder, suffix='.png', **options):
    """The label map of a one-row image that holds `values`."""
    (tmp_path / 'images').mkdir(exist_ok=True)
    (tmp_path / folder).mkdir(exist_ok=True)
    row = np.array([values], np.uint8)
    Image.fromarray(np.zeros((*row.shape, 3), np.uint8)).save(tmp_path / 'images' / 'a.jpg')
    Image.fromarray(row).save(tmp_path / folder / f'a{suffix}')
    (tmp_path / 'val.txt').write_text('a\n')
    dataset = DATASETS.build(
        dict(
            type=kind,
            data_root=str(tmp_path),
            data_prefix=dict(img_path='images', seg_map_path=folder),
            ann_file='val.txt',
            pipeline=LOADING,
            **options,
        )
    )
    return dataset[0]['gt_seg_map'][0].tolist()


@pytest.mark.parametrize('kind, original, prepared, wanted', CASES)
def test_both_layouts_give_the_same_classes(tmp_path, kind, original, prepared, wanted):
    assert load(tmp_path, kind, original, 'annotations') == wanted
    folder = two_layouts.PREPARED
    assert load(tmp_path, kind, prepared, folder, layout='detectron2') == wanted


@pytest.mark.parametrize('kind', [case[0] for case in CASES])
def test_prepared_labels_are_not_shifted_twice(tmp_path, kind):
    with pytest.raises(ValueError, match="begin at 0 already; set layout='detectron2'"):
        load(tmp_path, kind, [0, 1], two_layouts.PREPARED)
    with pytest.raises(ValueError, match='expected layout mmsegmentation or detectron2'):
        load(tmp_path, kind, [0, 1], 'annotations', layout='coco')


RENAMED = [
    ('ADE20KDataset', [0, 255, 7], 'there is 255 and no 150'),
    ('PascalContextDataset59', [0, 255, 58], 'there is 255 and no 59'),
    ('PascalVOC20Dataset', [19, 255, 255, 0], '2 pixels are 255 and 1 are 0'),
    ('PascalVOC20bDataset', [20, 20, 255, 3], '1 pixels are 255 and 0 are 0'),
]


@pytest.fixture
def said(monkeypatch):
    lines = []
    monkeypatch.setattr(paired_files, 'print_log', lambda line, *_: lines.append(line))
    return lines


@pytest.mark.parametrize('kind, prepared, found', RENAMED)
def test_values_show_it_where_the_folder_was_renamed(tmp_path, kind, prepared, found, said):
    with pytest.raises(
        ValueError, match=f"labels: .* begin at 1, found 0: {found}; set layout='detectron2' if"
    ):
        load(tmp_path, kind, prepared, 'labels')
    load(tmp_path, kind, prepared, 'labels', layout='detectron2')
    assert not said
    load(tmp_path, kind, prepared, 'labels', layout='mmsegmentation')
    assert said[0].endswith(f"found 0: {found}; they are read with layout='mmsegmentation'")


@pytest.mark.parametrize('kind', [case[0] for case in RENAMED[2:]])
def test_original_values_are_doubted_as_prepared_ones(tmp_path, kind, said):
    load(tmp_path, kind, [0, 0, 3, 255], 'labels', layout='detectron2')
    assert 'begin at 0, found 1: 1 pixels are 255 and 2 are 0; they are read with' in said[0]


def test_other_data_sets_say_it(tmp_path, said):
    options = dict(vocabulary=['cat', 'dog'], reduce_zero_label=True)
    assert load(tmp_path, 'FolderDataset', [0, 1, 2, 255], 'a', **options) == [255, 0, 1, 255]
    assert load(tmp_path, 'FolderDataset', [0, 1], 'b', **options) == [255, 0]
    assert not said
    assert load(tmp_path, 'FolderDataset', [0, 1, 255], 'c', **options) == [255, 0, 255]
    assert said[0].endswith('begin at 1, found 0: there is 255 and no 2')


def test_what_cannot_be_read_is_named_where_it_is_loaded(tmp_path):
    load(tmp_path, 'ADE20KDataset', [0, 1], 'labels')
    (tmp_path / 'labels' / 'a.png').write_bytes(b'no image')
    prefix = dict(img_path='images', seg_map_path='labels')
    given = dict(type='ADE20KDataset', data_root=str(tmp_path), data_prefix=prefix)
    dataset = DATASETS.build(dict(given, pipeline=LOADING))
    with pytest.raises(ValueError, match='a.png'):
        dataset[0]


def test_a_value_that_is_no_class_is_refused(tmp_path):
    with pytest.raises(ValueError, match='a.png holds label 150, which the dataset does not'):
        load(tmp_path, 'ADE20KDataset', [150], two_layouts.PREPARED, layout='detectron2')


def test_voc20b_has_the_background_last():
    meta = DATASETS.get('PascalVOC20bDataset').METAINFO
    assert meta['classes'][0] == 'aeroplane' and meta['classes'][-1] == 'background'
    assert meta['palette'][-1] == [0, 0, 0] and len(meta['palette']) == 21

"""Both forms of the published labels give the same classes; mixing them up is refused."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from mmseg_siglip.datasets import two_layouts
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


def test_a_value_that_is_no_class_is_refused(tmp_path):
    with pytest.raises(ValueError, match='a.png holds label 150, which the dataset does not'):
        load(tmp_path, 'ADE20KDataset', [150], two_layouts.PREPARED, layout='detectron2')


def test_voc20b_has_the_background_last():
    meta = DATASETS.get('PascalVOC20bDataset').METAINFO
    assert meta['classes'][0] == 'aeroplane' and meta['classes'][-1] == 'background'
    assert meta['palette'][-1] == [0, 0, 0] and len(meta['palette']) == 21

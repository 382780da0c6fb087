"""COCO-Stuff's numbers: raw, contiguous, and the names that go with them."""

from __future__ import annotations

import numpy as np
import pytest
from mmseg.datasets import COCOStuffDataset as MMSegCOCOStuff
from PIL import Image

from mmseg_siglip.datasets import COCOStuffDataset
from mmseg_siglip.datasets.coco_stuff import CONTIGUOUS_TO_RAW, RAW_TO_CONTIGUOUS
from mmseg_siglip.datasets.transforms import LoadAnnotations, LoadImageFromFile
from mmseg_siglip.text.vocabulary import Vocabulary


def load(tmp_path, values, suffix, **options):
    for folder in ('images', 'annotations'):
        (tmp_path / folder).mkdir(exist_ok=True)
    Image.fromarray(np.zeros((1, len(values), 3), np.uint8)).save(tmp_path / 'images' / 'a.jpg')
    Image.fromarray(np.array([values], np.uint8)).save(tmp_path / 'annotations' / f'a{suffix}')
    dataset = COCOStuffDataset(
        data_root=str(tmp_path),
        data_prefix=dict(img_path='images', seg_map_path='annotations'),
        pipeline=[
            LoadImageFromFile(),
            LoadAnnotations(),
        ],
        **options,
    )
    return dataset[0]['gt_seg_map'][0].tolist()


def test_cat_is_17_in_the_registry_16_in_the_file_and_15_for_the_model():
    classes = COCOStuffDataset.METAINFO['classes']
    assert RAW_TO_CONTIGUOUS[16] == 15 and classes[15] == 'cat'
    assert RAW_TO_CONTIGUOUS[17] == 16 and classes[16] == 'dog'
    assert (RAW_TO_CONTIGUOUS[91], RAW_TO_CONTIGUOUS[181]) == (80, 170)
    assert classes[80] == 'banner' and classes[170] == 'wood'


def test_the_maps_are_inverse_and_complete():
    assert len(RAW_TO_CONTIGUOUS) == 171
    assert sorted(RAW_TO_CONTIGUOUS.values()) == list(range(171))
    assert all(CONTIGUOUS_TO_RAW[new] == raw for raw, new in RAW_TO_CONTIGUOUS.items())
    gaps = set(range(182)) - set(RAW_TO_CONTIGUOUS)
    assert gaps == {11, 25, 28, 29, 44, 65, 67, 68, 70, 82, 90}


def test_names_are_mmsegs_in_order_and_those_of_the_vocabulary():
    assert COCOStuffDataset.METAINFO == MMSegCOCOStuff.METAINFO
    assert Vocabulary.load('coco_stuff_catseg').names == tuple(MMSegCOCOStuff.METAINFO['classes'])


def test_converted_and_raw_files_give_the_same(tmp_path):
    assert load(tmp_path, [15, 170, 255], '_labelTrainIds.png') == [15, 170, 255]
    assert load(tmp_path, [16, 181, 255], '.png', labels='raw') == [15, 170, 255]
    assert load(tmp_path, [15, 170, 255], '.png', layout='detectron2') == [15, 170, 255]


@pytest.mark.parametrize('value', [171, 181, 254])
def test_unconverted_files_are_refused(tmp_path, value):
    message = f'a_labelTrainIds.png holds label {value}, which the dataset does not define'
    with pytest.raises(ValueError, match=message):
        load(tmp_path, [16, value], '_labelTrainIds.png')
    with pytest.raises(ValueError, match='holds label 90, which the dataset does not define'):
        load(tmp_path, [90], '.png', labels='raw')
    with pytest.raises(ValueError, match="expected labels contiguous or raw, found 'ids'"):
        load(tmp_path, [0], '.png', labels='ids')

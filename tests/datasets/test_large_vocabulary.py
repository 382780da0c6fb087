from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from mmseg_siglip.datasets import ADE20K847Dataset, PascalContext459Dataset
from mmseg_siglip.datasets.transforms import LoadAnnotations


def first_labels(dataset, folder, values):
    (folder / 'a.jpg').touch()
    Image.fromarray(np.array([values], np.uint16)).save(folder / 'a.tif')
    prefix = dict(img_path=str(folder), seg_map_path=str(folder))
    results = dataset(data_prefix=prefix)[0]
    return LoadAnnotations(ignore_index=65535).transform(results)['gt_seg_map'].tolist()[0]


def test_ade_labels_are_as_in_the_file(tmp_path):
    values = [0, 255, 256, 846, 65535]
    assert first_labels(ADE20K847Dataset, tmp_path, values) == values


def test_context_void_is_459_or_65535(tmp_path):
    found = first_labels(PascalContext459Dataset, tmp_path, [0, 255, 458, 459, 65535])
    assert found == [0, 255, 458, 65535, 65535]
    with pytest.raises(ValueError, match='holds label 460'):
        first_labels(PascalContext459Dataset, tmp_path, [460])


@pytest.mark.parametrize(
    ('dataset', 'size'), [(ADE20K847Dataset, 847), (PascalContext459Dataset, 459)]
)
def test_metainfo(dataset, size):
    built = dataset(lazy_init=True)
    assert len(built.metainfo['classes']) == len(built.metainfo['palette']) == size
    assert built.ignore_index == 65535
    with pytest.raises(ValueError, match='has no selection of classes'):
        dataset(lazy_init=True, metainfo=dict(classes=('wall', 'sky')))

from __future__ import annotations

from mmseg.datasets import PascalVOCDataset

from mmseg_siglip.datasets import PascalVOC20Dataset
from mmseg_siglip.registry import DATASETS


def test_classes_are_voc_without_background():
    ours, theirs = PascalVOC20Dataset.METAINFO, PascalVOCDataset.METAINFO
    assert len(ours['classes']) == len(ours['palette']) == 20
    assert ours['classes'] == theirs['classes'][1:] and theirs['classes'][0] == 'background'
    assert ours['palette'] == theirs['palette'][1:]


def test_zero_is_ignored(tmp_path):
    (tmp_path / 'val.txt').write_text('2007_000033\n')
    for suffix in ('jpg', 'png'):
        (tmp_path / f'2007_000033.{suffix}').touch()
    dataset = DATASETS.build(
        dict(
            type='PascalVOC20Dataset',
            data_root=str(tmp_path),
            data_prefix=dict(img_path='.', seg_map_path='.'),
            ann_file='val.txt',
        )
    )
    assert dataset[0]['reduce_zero_label'] is True
    assert dataset[0]['label_map'] == {index: index for index in range(20)}
    assert dataset[0]['seg_map_path'].endswith('2007_000033.png')

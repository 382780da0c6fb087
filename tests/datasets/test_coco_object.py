from __future__ import annotations

from mmseg_siglip.datasets import COCOObjectDataset


def test_classes_and_suffix(tmp_path):
    (tmp_path / 'a.jpg').touch()
    dataset = COCOObjectDataset(data_prefix=dict(img_path=str(tmp_path), seg_map_path='labels'))
    classes = dataset.metainfo['classes']
    assert len(classes) == len(dataset.metainfo['palette']) == 81
    assert classes[:2] == ('background', 'person') and classes[-1] == 'toothbrush'
    assert dataset[0]['seg_map_path'] == 'labels/a_instanceTrainIds.png'
    assert dataset[0]['reduce_zero_label'] is False

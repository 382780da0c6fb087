from __future__ import annotations

from mmseg_siglip.datasets import COCOObjectDataset


def test_classes_and_suffix(tmp_path):
    labels = tmp_path / 'labels'
    labels.mkdir()
    for path in (tmp_path / 'a.jpg', labels / 'a_instanceTrainIds.png', labels / 'a.png'):
        path.touch()
    dataset = COCOObjectDataset(data_prefix=dict(img_path=str(tmp_path), seg_map_path=str(labels)))
    classes = dataset.metainfo['classes']
    assert len(classes) == len(dataset.metainfo['palette']) == 81
    assert classes[:2] == ('background', 'person') and classes[-1] == 'toothbrush'
    assert dataset[0]['seg_map_path'] == str(labels / 'a_instanceTrainIds.png')
    assert dataset[0]['reduce_zero_label'] is False

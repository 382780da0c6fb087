from __future__ import annotations

from mmseg_siglip.datasets import PascalContext60Dataset


def test_sixty_classes_and_zero_counts(tmp_path):
    (tmp_path / 'val.txt').write_text('2008_000002\n')
    for suffix in ('jpg', 'png'):
        (tmp_path / f'2008_000002.{suffix}').touch()
    dataset = PascalContext60Dataset(
        data_root=str(tmp_path),
        data_prefix=dict(img_path='.', seg_map_path='.'),
        ann_file='val.txt',
    )
    classes = dataset.metainfo['classes']
    assert len(classes) == len(dataset.metainfo['palette']) == 60
    assert classes[0] == 'background' and classes[-1] == 'wood'
    assert dataset[0]['reduce_zero_label'] is False

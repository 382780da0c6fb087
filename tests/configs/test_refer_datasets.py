"""Every referring data set's config builds on files in that data set's layout, split by split."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import init_default_scope
from PIL import Image

from mmseg_siglip.registry import DATASETS, METRICS

# folder of the annotations, references, folder of the images, and which splits the config loads
REFS = dict(
    refcoco=('refcoco', 'refs(unc).p', 'images/mscoco/images/train2014', 'val'),
    refcoco_plus=('refcoco+', 'refs(unc).p', 'images/mscoco/images/train2014', 'val'),
    refcocog=('refcocog', 'refs(umd).p', 'images/mscoco/images/train2014', 'val'),
    rrsis_d=('rrsisd', 'refs(unc).p', 'images/rrsisd/JPEGImages', 'test'),
)
LISTS = dict(refsegrs=('images', 'masks', '.tif', 200), risbench=('img_rgb', 'mask', '.png', 1))
SPLITS = ('train', 'val', 'test')
SIZE = (24, 32)


@pytest.fixture(autouse=True)
def scope():
    init_default_scope('mmseg_siglip')


def picture(path, array=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((*SIZE, 3), np.uint8) if array is None else array).save(path)


def block(index):
    """A square of 36 pixels that moves with the split."""
    mask = np.zeros(SIZE, np.uint8)
    mask[4:10, 5 + index : 11 + index] = 1
    return mask


def write_refs(root, name):
    folder, refs_file, images, _ = REFS[name]
    records, annotations, refs = [], [], []
    for index, split in enumerate(SPLITS):
        x = 5 + index
        polygon = [x, 4, x + 6, 4, x + 6, 10, x, 10]
        picture(root / images / f'{split}.jpg')
        records.append(dict(id=index, file_name=f'{split}.jpg', height=SIZE[0], width=SIZE[1]))
        annotations.append(dict(id=index, image_id=index, segmentation=[polygon]))
        sentences = [dict(raw=f'{split} a'), dict(raw=f'{split} b')]
        refs.append(dict(image_id=index, ann_id=index, split=split, sentences=sentences))
    (root / folder).mkdir(parents=True)
    text = json.dumps(dict(images=records, annotations=annotations))
    (root / folder / 'instances.json').write_text(text)
    (root / folder / refs_file).write_bytes(pickle.dumps(refs, protocol=2))


def write_lists(root, name):
    images, masks, suffix, value = LISTS[name]
    for index, split in enumerate(SPLITS):
        picture(root / images / f'{split}{suffix}')
        picture(root / masks / f'{split}{suffix}', block(index) * value)
        file = split if name == 'refsegrs' else f'{split}{suffix}'
        lines = f'{file} {split} a\n{file} {split} b\n'
        (root / f'output_phrase_{split}.txt').write_text(lines)


def write_jsonl(root):
    for index, split in enumerate(SPLITS):
        picture(root / 'images' / f'{split}.png')
        picture(root / 'masks' / f'{split}.png', block(index))
        line = dict(image=f'{split}.png', mask=f'{split}.png')
        line['expressions'] = [f'{split} a', f'{split} b']
        (root / f'{split}.jsonl').write_text(json.dumps(line))


@pytest.mark.parametrize('name', [*REFS, *LISTS, 'jsonl'])
def test_builds_and_loads_what_was_written(repository, tmp_path, name):
    if name in REFS:
        write_refs(tmp_path, name)
    elif name in LISTS:
        write_lists(tmp_path, name)
    else:
        write_jsonl(tmp_path)
    config = Config.fromfile(repository / f'configs/_base_/datasets/refer_{name}.py')
    loaded = dict(train='train', val='val', test=REFS[name][3] if name in REFS else 'test')
    for split, expected in loaded.items():
        dataset = DATASETS.build(
            dict(config[f'{split}_dataloader'].dataset, data_root=str(tmp_path))
        )
        (sample,) = dataset
        data = sample['data_samples']
        truth = data.gt_sem_seg.data.numpy()
        assert sample['inputs'].shape == (3, 1024, 1024)
        if split == 'train':
            assert len(data.text) == 1 and truth.shape == (1, 1024, 1024)
            assert truth.mean() == pytest.approx(36 / 768, rel=0.03)
        else:
            assert data.text == [f'{expected} a', f'{expected} b']
            assert (truth == block(SPLITS.index(expected))).all() and len(truth) == 2
    assert type(METRICS.build(config.test_evaluator)).__name__ == 'RefSegMetric'


def test_shapes(repository):
    config = Config.fromfile(repository / 'configs/_base_/datasets/refer_shapes.py')
    counts = dict(train=4, val=6, test=6)
    seen = {}
    for split, phrases in counts.items():
        dataset = DATASETS.build(dict(config[f'{split}_dataloader'].dataset, num_scenes=2))
        for sample in dataset:
            data = sample['data_samples']
            assert data.gt_sem_seg.shape == data.ori_shape == (128, 192)
            assert len(data.text) == len(data.gt_sem_seg.data) == phrases
        seen[split] = dataset[0]['data_samples'].img_path
    assert len(set(seen.values())) == 3

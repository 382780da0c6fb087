"""Every dataset config builds on files in its benchmark's layout, and means what it says."""

from __future__ import annotations

import numpy as np
import pytest
from layouts import LAYOUTS
from mmengine.config import Config
from mmengine.registry import init_default_scope
from PIL import Image

from mmseg_siglip.registry import DATASETS, METRICS
from mmseg_siglip.text.vocabulary import Vocabulary

REMOTE = ('loveda', 'potsdam', 'vaihingen', 'isaid', 'openearthmap', 'uavid', 'udd5', 'vdd')
SHORT_SIDE = dict(coco_stuff=448, cityscapes=560) | dict.fromkeys(REMOTE, 448)
VOCABULARY = dict(coco_stuff10k='coco_stuff')
RENAMED = {'boat', 'diningtable', 'tvmonitor'}  # by SCLIP's lists for VOC


@pytest.fixture(autouse=True)
def scope():
    init_default_scope('mmseg_siglip')


def load(repository, name) -> Config:
    return Config.fromfile(repository / f'configs/_base_/datasets/{name}.py')


def build(config, root):
    return DATASETS.build(dict(config.test_dataloader.dataset, data_root=str(root)))


@pytest.mark.parametrize('name', LAYOUTS)
def test_builds_and_loads_what_was_written(repository, laid_out, name):
    config = load(repository, name)
    dataset = build(config, laid_out(name))
    assert len(dataset) == 3
    width, height = 64, 48
    for index in range(3):
        packed = dataset[index]
        sample = packed['data_samples']
        assert sample.ori_shape == (height, width + 8 * index)
        short = SHORT_SIDE.get(name, 336)
        assert packed['inputs'].shape == (3, short, round((width + 8 * index) * short / height))
        assert np.array_equal(truth(sample), laid_out_truth(name, index))


def truth(sample) -> np.ndarray:
    labels = sample.gt_sem_seg.data[0].numpy()
    return np.where(labels == labels[0, 0], -1, labels)


def laid_out_truth(name, index) -> np.ndarray:
    classes = min(LAYOUTS[name].classes, 13)
    labels = np.kron(
        np.random.default_rng(index).integers(0, classes, (6, 8 + index)), np.ones((8, 8), int)
    )
    labels[:2] = -1
    return labels


@pytest.mark.parametrize('name', LAYOUTS)
def test_void_is_the_ignore_index_of_the_metric(repository, laid_out, name):
    config = load(repository, name)
    metric = METRICS.build(config.test_evaluator)
    labels = build(config, laid_out(name))[0]['data_samples'].gt_sem_seg.data[0]
    assert labels[0, 0] == metric.ignore_index
    assert metric.ignore_index >= LAYOUTS[name].classes


@pytest.mark.parametrize('name', LAYOUTS)
def test_flip_views(repository, laid_out, name):
    config = load(repository, name)
    config.test_dataloader.dataset.pipeline = config.tta_pipeline
    views = build(config, laid_out(name))[0]
    plain, flipped = views['inputs']
    assert np.array_equal(plain.numpy(), flipped.numpy()[..., ::-1])
    labels = [sample.gt_sem_seg.data for sample in views['data_samples']]
    assert np.array_equal(*labels)


def spelled(name: str) -> set[str]:
    """The words of a class without spaces, order of parts and MMSeg's suffixes."""
    name = name.removesuffix('-other').removesuffix('-stuff').lower().replace('_', '')
    return {''.join(sorted(part)) for part in [name.replace(' ', '').replace('-', '')]}


@pytest.mark.parametrize('suffix', ['', '_sclip'])
@pytest.mark.parametrize('name', LAYOUTS)
def test_vocabulary_is_in_the_order_of_the_dataset(repository, laid_out, name, suffix):
    stem = VOCABULARY.get(name, name)
    if suffix and stem in ('ade847', 'context459', 'camvid', *REMOTE):
        return
    vocabulary = Vocabulary.load(stem + suffix)
    classes = build(load(repository, name), laid_out(name)).metainfo['classes']
    assert len(vocabulary) == len(classes)
    for index, (words, original) in enumerate(zip(vocabulary.classes, classes, strict=True)):
        if index == vocabulary.background_index:
            assert original == 'background'
            continue
        own = set().union(*(spelled(word) for word in words))
        assert own & spelled(original) or original in RENAMED, (index, words, original)


def test_coco_mini(repository, tmp_path, monkeypatch):
    monkeypatch.setenv('MMSEG_SIGLIP_DATA', str(tmp_path))
    config = load(repository, 'coco_mini')
    folder = tmp_path / 'coco-mini'
    assert config.test_dataloader.dataset.data_root == str(folder)
    for part in ('images', 'masks'):
        (folder / part).mkdir(parents=True)
    Image.new('RGB', (5, 2)).save(folder / 'images/a.jpg')
    Image.fromarray(np.array([[0, 1, 13, 90, 200]] * 2, np.uint8)).save(folder / 'masks/a.png')
    dataset = DATASETS.build(config.test_dataloader.dataset)
    names = dataset.metainfo['classes']
    assert len(names) == 133
    labels = dataset[0]['data_samples'].gt_sem_seg.data[0, 0].tolist()
    assert labels[0] == 255
    assert [names[label] for label in labels[1:]] == ['person', 'stop sign', 'toothbrush', 'rug']


def test_relative_root_without_the_variable(repository, monkeypatch):
    monkeypatch.delenv('MMSEG_SIGLIP_DATA', raising=False)
    assert load(repository, 'camvid').test_dataloader.dataset.data_root == 'data/camvid'


@pytest.mark.parametrize(('name', 'count'), [('coco_mini', 100), ('camvid', 51)])
def test_real_photographs(repository, real_data, name, count):
    config = load(repository, name)
    dataset = DATASETS.build(config.test_dataloader.dataset)
    assert len(dataset) == count
    seen = set()
    for index in range(0, count, 5):
        sample = dataset[index]['data_samples']
        assert sample.gt_sem_seg.shape == sample.ori_shape
        seen |= set(sample.gt_sem_seg.data.unique().tolist())
    assert len(seen) > 10 and seen <= {*range(len(dataset.metainfo['classes'])), 255}

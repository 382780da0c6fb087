import numpy as np
import pytest
import torch

from mmseg_siglip.datasets import ShapesWorldDataset
from mmseg_siglip.datasets.shapes_world.scene import (
    CLASSES,
    HELD_OUT_PAIRS,
    PAIR_CLASSES,
    SPLITS,
    generate,
)
from mmseg_siglip.datasets.shapes_world.segmentation import class_groups, palette
from mmseg_siglip.registry import DATASETS
from mmseg_siglip.text.vocabulary import Vocabulary

PACK = [dict(type='mmseg.PackSegInputs')]


@pytest.mark.parametrize('task, classes', [('shapes', CLASSES), ('pairs', PAIR_CLASSES)])
def test_samples_are_the_scenes(task, classes):
    dataset = ShapesWorldDataset(task=task, num_scenes=3, size=(48, 64), pipeline=PACK)
    assert dataset.metainfo['classes'] == classes and len(dataset) == 3
    scene = generate(SPLITS['test'][2], size=(48, 64), held_out=True)
    sample = dataset[2]
    np.testing.assert_array_equal(sample['inputs'].numpy()[::-1].transpose(1, 2, 0), scene.image)
    label = sample['data_samples'].gt_sem_seg.data[0].numpy()
    np.testing.assert_array_equal(label, scene.pairs if task == 'pairs' else scene.classes)
    assert sample['data_samples'].ori_shape == (48, 64)
    assert torch.equal(dataset[2]['inputs'], sample['inputs'])


def test_pipelines_can_read_the_whole_scene():
    info = ShapesWorldDataset(num_scenes=1, size=(48, 64)).get_data_info(0)
    assert info['scene'].depth.shape == (48, 64) and info['scene'].objects


def test_builds_from_a_config_without_files():
    cfg = dict(type='ShapesWorldDataset', task='pairs', num_scenes=2, size=(32, 48), pipeline=PACK)
    assert len(DATASETS.build(cfg)) == 2


def test_held_out_pairs_are_shown_in_the_test_split_only():
    names = {f'{colour} {shape}' for colour, shape in HELD_OUT_PAIRS}
    for split, expected in (('train', False), ('val', False), ('test', True)):
        dataset = ShapesWorldDataset(task='pairs', split=split, num_scenes=40, size=(32, 48))
        labels = {v for i in range(40) for v in np.unique(dataset.get_data_info(i)['gt_seg_map'])}
        assert bool({PAIR_CLASSES[v] for v in labels} & names) == expected
    with pytest.raises(ValueError, match='must not be shown in the training split'):
        ShapesWorldDataset(split='train', held_out=True)


@pytest.mark.parametrize('name, task', [('shapes', 'shapes'), ('shapes_pairs', 'pairs')])
def test_bundled_vocabulary_has_the_classes_in_order(name, task):
    dataset = ShapesWorldDataset(task=task, num_scenes=1)
    assert Vocabulary.load(name).names == dataset.metainfo['classes']


@pytest.mark.parametrize('task, count', [('shapes', 13), ('pairs', 53)])
def test_palette_and_groups(task, count):
    colours = palette(task)
    assert len(set(colours)) == len(colours) == count
    assert all(0 <= value <= 255 for colour in colours for value in colour)
    groups = class_groups(task)
    assert sorted(i for group in groups.values() for i in group) == list(range(count))
    if task == 'pairs':
        unseen = {PAIR_CLASSES[i] for i in groups['unseen_pairs']}
        assert unseen == {f'{colour} {shape}' for colour, shape in HELD_OUT_PAIRS}


def test_refusals():
    with pytest.raises(ValueError, match="task must be one of .*'depths'"):
        ShapesWorldDataset(task='depths')
    with pytest.raises(ValueError, match="'val' has scenes 0 to 99999"):
        ShapesWorldDataset(split='val', num_scenes=100_001)

from collections import Counter

import numpy as np
import pytest
from mmengine.registry import init_default_scope

from mmseg_siglip.datasets import ShapesReferringDataset
from mmseg_siglip.datasets.shapes_world.phrases import KINDS, kind_of
from mmseg_siglip.datasets.shapes_world.referring import referring_expressions
from mmseg_siglip.datasets.shapes_world.scene import generate, scene_seed

PIPELINE = [dict(type='LoadReferringMasks'), dict(type='PackReferringInputs')]


@pytest.fixture(autouse=True)
def scope():
    init_default_scope('mmseg_siglip')


def build(**options):
    options = dict(num_scenes=4, size=(48, 64), pipeline=PIPELINE, test_mode=True) | options
    return ShapesReferringDataset(**options)


def test_masks_are_those_of_the_grammar():
    dataset = build(phrases_per_image=30)
    for index in range(4):
        scene = generate(scene_seed('test', index), size=(48, 64), held_out=True)
        truth = {phrase.text: phrase.mask(scene) for phrase in referring_expressions(scene)}
        sample = dataset[index]['data_samples']
        assert len(set(sample.text)) == len(sample.text) == 30
        for text, mask in zip(sample.text, sample.gt_sem_seg.data.numpy(), strict=True):
            assert (mask == truth[text]).all() and mask.any()


def test_kinds_are_balanced():
    phrases = ['the heart', 'the red heart', 'the leftmost heart', 'the heart above the ring']
    assert [kind_of(text) for text in phrases] == ['name', 'name', 'extreme', 'relation']
    for sample in build():
        counts = Counter(map(kind_of, sample['data_samples'].text))
        assert sum(counts.values()) == 6 and set(counts) == set(KINDS)


def test_tests_are_fixed_and_training_is_drawn():
    texts = []
    for seed in (0, 1):
        np.random.seed(seed)
        texts.append([sample['data_samples'].text for sample in build()])
    assert texts[0] == texts[1]
    dataset = build(test_mode=False, split='train')
    draws = []
    for seed in (0, 0, 1):
        np.random.seed(seed)
        draws.append([dataset[0]['data_samples'].text[0] for _ in range(12)])
    assert draws[0] == draws[1] != draws[2] and len(set(draws[0])) > 4
    assert len(build(test_mode=False, phrases_per_image=4)[0]['data_samples'].text) == 4


def test_refusals():
    with pytest.raises(ValueError, match="split must be one of .* got 'testA'"):
        build(split='testA')
    with pytest.raises(ValueError, match='held-out colour-shape pairs must not be shown'):
        build(split='train', held_out=True)

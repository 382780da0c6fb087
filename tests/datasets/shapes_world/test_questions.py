"""Questions: true of their scenes, balanced, and different in every split."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from mmseg_siglip.datasets.shapes_world.questions import (
    KINDS,
    NUMBERS,
    ShapesQuestionDataset,
    all_questions,
)
from mmseg_siglip.datasets.shapes_world.scene import HELD_OUT_PAIRS, generate
from mmseg_siglip.registry import DATASETS


@pytest.fixture(scope='module')
def dataset():
    return ShapesQuestionDataset(num_questions=480, num_scenes=400, split='val', turns=3)


def truth(scene, question: str) -> str:
    """The answer, found again from the label maps and the words."""
    words = question.removesuffix('?').split()
    shapes = [item.shape for item in scene.objects]
    visible = [scene.depth[scene.instances == i + 1] for i in range(len(shapes))]
    if words[:2] == ['how', 'many']:
        return NUMBERS[sum(words[2] in (f'{s}s', f'{s}es') for s in shapes)]
    if words[0] == 'what':
        (item,) = [item for item in scene.objects if item.shape == words[-1]]
        return item.colour
    medians = [float(np.median(depth)) for depth in visible]
    pick = np.argmin if words[-1] == 'nearest' else np.argmax
    return shapes[int(pick(medians))]


def test_answers_are_true(dataset):
    for index in range(0, 480, 7):
        sample = dataset[index]['data_samples']
        scene = dataset._scenes[int(sample.name[-6:])]
        assert truth(scene, sample.question) == sample.answer
        assert len(sample.further) == 2
        for question, answer in sample.further:
            assert truth(scene, question) == answer


def test_images_and_depth_are_the_scenes(dataset):
    sample = dataset[5]
    scene = dataset._scenes[int(sample['data_samples'].name[-6:])]
    assert np.array_equal(sample['inputs'].permute(1, 2, 0).numpy(), scene.image)
    assert np.array_equal(sample['data_samples'].depth.numpy(), scene.depth)


def test_every_answer_is_as_frequent_as_the_others(dataset):
    found = Counter(
        (s.kind, s.answer) for s in (dataset[i]['data_samples'] for i in range(len(dataset)))
    )
    for kind, answers in KINDS.items():
        counts = [found[kind, answer] for answer in answers]
        assert sum(counts) == 120 and max(counts) - min(counts) <= 1


def test_a_question_does_not_give_its_answer_away():
    dataset = ShapesQuestionDataset(
        num_questions=1800, num_scenes=400, split='val', kinds=('count',)
    )
    by_question = {}
    for index in range(len(dataset)):
        sample = dataset[index]['data_samples']
        by_question.setdefault(sample.question, Counter())[sample.answer] += 1
    assert len(by_question) == 8
    for answers in by_question.values():
        assert max(answers.values()) / sum(answers.values()) < 0.45


def test_further_turns_make_up_for_rare_answers():
    """Two of a shape are rare in scenes, none is frequent."""
    dataset = ShapesQuestionDataset(num_questions=300, num_scenes=400, turns=9, kinds=('count',))
    turns = [turn for i in range(300) for turn in dataset[i]['data_samples'].further]
    share = Counter(answer for _, answer in turns)
    assert share['zero'] / len(turns) < 0.5 and share['two'] / len(turns) > 0.15


def test_deterministic_and_apart():
    first, again, train = (
        ShapesQuestionDataset(num_questions=8, num_scenes=200, split=split)
        for split in ('test', 'test', 'train')
    )
    for a, b, c in zip(*([d[i] for i in range(8)] for d in (first, again, train)), strict=True):
        assert a['data_samples'].question == b['data_samples'].question
        assert (a['inputs'] == b['inputs']).all()
        assert not (a['inputs'] == c['inputs']).all()
    pairs = {(o.colour, o.shape) for scene in first._scenes for o in scene.objects}
    assert not pairs & set(HELD_OUT_PAIRS)


def test_nothing_doubtful_is_asked():
    for seed in range(60):
        scene = generate(seed, size=(64, 64))
        depths = sorted(item.depth for item in scene.objects)
        kinds = Counter(question.kind for question in all_questions(scene))
        assert kinds['nearest'] == (len(depths) > 1 and depths[1] / depths[0] >= 1.15)
        assert kinds['farthest'] == (len(depths) > 1 and depths[-1] / depths[-2] >= 1.15)


def test_bad_input():
    assert DATASETS.get('ShapesQuestionDataset') is ShapesQuestionDataset
    with pytest.raises(ValueError, match='expected some of count, .* found weight'):
        ShapesQuestionDataset(num_questions=1, kinds=('weight',))
    with pytest.raises(ValueError, match='turns: expected 1 or more, found 0'):
        ShapesQuestionDataset(num_questions=1, turns=0)
    with pytest.raises(ValueError, match='split must be one of'):
        ShapesQuestionDataset(num_questions=1, split='all')
    few = ShapesQuestionDataset(num_questions=100, num_scenes=1)
    with pytest.raises(ValueError, match='found none among 1 of train'):
        [few[i] for i in range(100)]
    with pytest.raises(IndexError):
        few[100]

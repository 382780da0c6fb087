from __future__ import annotations

from types import SimpleNamespace

import pytest
from mmengine.config import Config
from mmengine.dataset import ConcatDataset
from mmengine.registry import DefaultScope

from mmseg_siglip.datasets.shapes_world.segmentation import ShapesWorldDataset
from mmseg_siglip.engine import Runner
from mmseg_siglip.engine.training_words import check_scored_words, check_training_words
from mmseg_siglip.evaluation import IoUMetric
from mmseg_siglip.text.vocabulary import Vocabulary

CHOSEN = dict(type='SelectClasses', source='shapes_pairs', target='shapes_pairs_trained')


@pytest.fixture(autouse=True)
def scope():
    with DefaultScope.overwrite_default_scope('mmseg_siglip'):
        yield


def data(*pipeline):
    return ShapesWorldDataset(task='pairs', split='train', num_scenes=2, pipeline=pipeline)


def model(words):
    return SimpleNamespace(train_vocabulary=Vocabulary.load(words))


def test_words_of_the_masks():
    check_training_words(model('shapes_pairs'), data())
    check_training_words(model('shapes_pairs_trained'), data(CHOSEN))
    check_training_words(SimpleNamespace(), data())
    check_training_words(model('shapes_pairs'), [1, 2])


@pytest.mark.parametrize('join', [False, True])
def test_other_words_are_refused(join):
    chosen, whole = data(CHOSEN), data()
    if join:
        chosen, whole = (ConcatDataset([part, part]) for part in (chosen, whole))
    with pytest.raises(ValueError, match=r'model.vocabulary: expected the 37 classes .* found 53'):
        check_training_words(model('shapes_pairs'), chosen)
    backwards = list(Vocabulary.load('shapes_pairs').names)[::-1]
    with pytest.raises(ValueError, match='expected its order'):
        check_training_words(model(backwards), whole)


def loop(dataset, *metrics):
    return SimpleNamespace(
        dataloader=SimpleNamespace(dataset=dataset), evaluator=SimpleNamespace(metrics=metrics)
    )


def test_words_that_are_scored():
    names, scores = Vocabulary.load('shapes_pairs').names, IoUMetric()
    looks_for = SimpleNamespace(vocabulary=Vocabulary.load('shapes_pairs'))
    backwards = SimpleNamespace(vocabulary=Vocabulary.load(list(names)[::-1]))
    check_scored_words(looks_for, loop(data(), scores))
    check_scored_words(
        backwards, loop(data(), object(), IoUMetric(format_only=True, output_dir=''))
    )
    check_scored_words(backwards, SimpleNamespace())
    check_scored_words(SimpleNamespace(), loop(data(), scores))
    check_scored_words(backwards, loop([1, 2], scores))
    with pytest.raises(ValueError, match='expected its order'):
        check_scored_words(backwards, loop(data(), object(), scores))
    fewer = SimpleNamespace(vocabulary=Vocabulary.load(list(names)[:5]))
    with pytest.raises(ValueError, match='model.vocabulary: expected the 53 .* found 5'):
        check_scored_words(fewer, loop(data(), scores))


def test_a_training_is_refused_before_its_validation(tiny_config, tmp_path):
    cfg = Config.fromfile(tiny_config)
    cfg.work_dir = str(tmp_path / 'run')
    cfg.val_evaluator.type = 'mmseg_siglip.IoUMetric'
    runner = Runner.from_cfg(cfg)
    names = cfg.val_dataloader.dataset.metainfo.classes
    runner.model.vocabulary = Vocabulary.load(list(names)[::-1])
    with pytest.raises(ValueError, match='expected its order'):
        runner.train()
    assert not list((tmp_path / 'run').glob('*.pth'))

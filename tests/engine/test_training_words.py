from __future__ import annotations

from types import SimpleNamespace

import pytest
from mmengine.dataset import ConcatDataset
from mmengine.registry import DefaultScope

from mmseg_siglip.datasets.shapes_world.segmentation import ShapesWorldDataset
from mmseg_siglip.engine.training_words import check_training_words
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

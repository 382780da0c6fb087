import pytest
import torch
from mmseg.structures import SegDataSample

from mmseg_siglip.models.segmentors.phrases import Phrases

TEXTS = [['red star', 'cat'], ['sky'], ['road', 'dog', 'cat']]
ROWS = torch.arange(6)


def test_they_stand_side_by_side_and_know_their_images():
    phrases = Phrases(TEXTS)
    assert phrases.texts == ['red star', 'cat', 'sky', 'road', 'dog', 'cat']
    assert phrases.owners == [0, 0, 1, 2, 2, 2]


@pytest.mark.parametrize('step', [1, 2, 4, 6, 100])
def test_what_parts_gave_returns_to_the_images(step):
    phrases = Phrases(TEXTS)
    parts = [ROWS[part] for part in phrases.parts(step)]
    assert max(map(len, parts)) == min(step, 6) and torch.equal(torch.cat(parts), ROWS)
    assert [own.tolist() for own in phrases.split(parts)] == [[0, 1], [2], [3, 4, 5]]
    assert phrases.split([None] * len(parts)) == [None, None, None]


def test_some_images_count_from_zero_again():
    some = Phrases(TEXTS).take([2, 0])
    assert some.of_image == [TEXTS[2], TEXTS[0]] and some.owners == [0, 0, 0, 1, 1]


def test_they_are_read_from_samples():
    samples = [SegDataSample(metainfo=dict(text=tuple(text))) for text in TEXTS]
    assert Phrases.of(samples).of_image == TEXTS


@pytest.mark.parametrize('text', [None, [], 'a cat', [3], ['a cat', None]])
def test_another_form_is_refused_and_named(text):
    samples = [SegDataSample(metainfo=dict(text=value)) for value in (['a cat'], text)]
    with pytest.raises(ValueError, match='image 1 of the batch: expected text, a list of one or'):
        Phrases.of(samples)

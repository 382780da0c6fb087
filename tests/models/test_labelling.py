import pytest
import torch
from oracles import classify

from mmseg_siglip.models import labelling
from mmseg_siglip.models.labelling import DROPPED, Labeller, label_views, merge_words

OWNER = (0, 0, 0, 1, 1, 2, 3, 4, 4)


def rows_of(cosines):
    return lambda first, last: cosines[:, first:last]


@pytest.mark.parametrize('owner', [OWNER, tuple(range(9))])
@pytest.mark.parametrize(
    'rules',
    [
        dict(),
        dict(prob_thd=0.3, background_index=0),
        dict(area_thd=0.25, background_index=2),
        dict(prob_thd=0.3, area_thd=0.1, background_index=1),
    ],
)
@pytest.mark.parametrize('chunk', [1, 2000, 2**30])
def test_equals_the_plain_rules(monkeypatch, owner, rules, chunk):
    monkeypatch.setattr(labelling, 'CHUNK_BYTES', chunk)
    cosines = torch.rand(9, 20, 30, generator=torch.Generator().manual_seed(0))
    cosines += torch.linspace(0, 0.5, 9)[:, None, None]
    result = Labeller(owner, 10.0, **rules)(
        rows_of(cosines), (20, 30), return_scores=True, return_probabilities=True
    )
    plain = {'background' if k == 'background_index' else k: v for k, v in rules.items()}
    probabilities, labels = classify(cosines, owner, scale=10.0, **plain)
    assert torch.equal(result.labels, labels)
    torch.testing.assert_close(result.probabilities, probabilities)
    torch.testing.assert_close(result.scores, probabilities.max(0).values)


@pytest.mark.parametrize('rules', [{}, dict(prob_thd=0.3), dict(prob_thd=0.3, background_index=2)])
def test_labels_of_known_probabilities(rules):
    probabilities = torch.rand(5, 4, 6, generator=torch.Generator().manual_seed(0)) / 2
    expected = probabilities.argmax(0)
    if 'background_index' in rules:
        expected[probabilities.amax(0) < 0.3] = 2
        assert not torch.equal(expected, probabilities.argmax(0))
    labels = Labeller(range(5), 10.0, **rules).of_probabilities(probabilities)
    assert torch.equal(labels, expected)


def test_ties_go_to_the_first_class():
    """As "bed", which SCLIP's COCO-Object list names twice."""
    cosines = torch.tensor([0.1, 0.9, 0.9]).view(3, 1, 1)
    assert Labeller((0, 0, 1), 40.0)(rows_of(cosines), (1, 1)).labels.item() == 0


def test_small_classes_go_to_the_next_best():
    """One pixel of class 1 among ten of foreground; its second choice is class 2."""
    cosines = torch.zeros(3, 1, 10)
    cosines[2] = 0.5
    cosines[1, 0, 0] = 1.0
    assert Labeller((0, 1, 2), 1.0)(rows_of(cosines), (1, 10)).labels[0, 0] == 1
    labeller = Labeller((0, 1, 2), 1.0, area_thd=0.1, background_index=0)
    assert labeller(rows_of(cosines), (1, 10)).labels.eq(2).all()


def test_only_what_is_asked_for():
    result = Labeller((0, 1), 1.0)(rows_of(torch.rand(2, 3, 4)), (3, 4))
    assert result.scores is None and result.probabilities is None
    assert result.labels.shape == (3, 4) and result.labels.dtype == torch.int64


def test_merge_takes_the_highest():
    values = torch.randn(9, 2, 3)
    spans = [(0, 3), (3, 5), (5, 6), (6, 7), (7, 9)]
    expected = torch.stack([values[a:b].amax(0) for a, b in spans])
    assert torch.equal(merge_words(values, OWNER), expected)
    assert merge_words(values, range(9)) is values


@pytest.mark.parametrize('words_at_once', [1, 2, 100])
def test_labels_are_the_best_of_the_words_looked_at(monkeypatch, words_at_once):
    monkeypatch.setattr('mmseg_siglip.models.labelling.CHUNK_BYTES', 4 * words_at_once)
    torch.manual_seed(0)
    logits = torch.randn(2, 5, 3, 3)
    logits[:, 3] = DROPPED  # no view looked at it
    chances = torch.rand(5, 6, 7)
    chances[3] = 2.0
    asked = []

    def probabilities(words):
        asked.extend(words.tolist())
        return chances[words]

    owner = [0, 0, 1, 2, 3]
    found = label_views(probabilities, logits, (6, 7), owner, cells=1, return_probabilities=True)
    assert asked == [0, 1, 2, 4]
    best = chances[[0, 1, 2, 4]].argmax(0)
    assert torch.equal(found.labels, torch.tensor([0, 0, 1, 3])[best])
    assert torch.equal(found.scores, chances[[0, 1, 2, 4]].amax(0))
    assert found.probabilities.shape == (4, 6, 7) and (found.probabilities[2] == 0).all()
    torch.testing.assert_close(found.probabilities[0], chances[:2].amax(0))


@pytest.mark.parametrize('value', [float('nan'), float('inf')])
@pytest.mark.parametrize('chunk', [1, 2**30])
def test_one_value_that_is_no_number_is_noticed(monkeypatch, chunk, value):
    monkeypatch.setattr(labelling, 'CHUNK_BYTES', chunk)
    cosines = torch.rand(9, 20, 30)
    for area_thd in (None, 0.1):
        labeller = Labeller(OWNER, 10.0, area_thd=area_thd, background_index=0)
        assert labeller(rows_of(cosines), (20, 30)).finite
    cosines[4, 7, 3] = value
    assert not labeller(rows_of(cosines), (20, 30)).finite
    logits = torch.zeros(2, 9, 4, 5)
    for bad in (logits, logits.index_fill(1, torch.tensor([4]), DROPPED)):
        found = label_views(lambda words: cosines[words], bad, (20, 30), OWNER, cells=1)
        assert found.finite == (bad is not logits)
    for logits in (torch.full((2, 9, 4, 5), float('nan')), torch.zeros(2, 9, 4, 5)):
        logits[1, 4, 2, 2] = float('nan')
        values = logits.mean(0)
        assert not label_views(lambda w, v=values: v[w], logits, (4, 5), OWNER, cells=1).finite

"""Accuracy by hand."""

import pytest

from mmseg_siglip.evaluation import AnswerAccuracy
from mmseg_siglip.registry import METRICS


def test_each_kind_and_the_mean_of_kinds():
    metric = METRICS.build(dict(type='AnswerAccuracy'))
    assert isinstance(metric, AnswerAccuracy)
    answers = [
        ('count', 'two', 'two'),
        ('count', 'one', 'two'),
        ('count', 'one', ' One.'),
        ('count', 'one', 'one star'),
        ('colour', 'red', 'red'),
    ]
    metric.process(
        {}, [dict(kind=k, answer=a, pred_answer=p, question='?') for k, a, p in answers[:2]]
    )
    metric.process({}, [dict(kind=k, answer=a, pred_answer=p) for k, a, p in answers[2:]])
    scores = metric.evaluate(len(answers))
    assert scores == pytest.approx({'answers/count': 50, 'answers/colour': 100, 'answers/mean': 75})


def scores(*samples: dict) -> dict[str, float]:
    metric = AnswerAccuracy()
    metric.process({}, samples)
    return metric.evaluate(len(samples))


def test_blanks_before_a_full_stop_and_samples_without_a_kind():
    found = scores(dict(answer='red', pred_answer=' Red . '), dict(answer='red', pred_answer=''))
    assert found == {'answers/other': 50, 'answers/mean': 50}


@pytest.mark.parametrize('truth', ['', ' . ', None, 3, ['red', 'crimson']])
def test_a_truth_that_no_answer_would_equal(truth):
    with pytest.raises(ValueError, match=r'^b\.png: expected a true answer, found'):
        scores(dict(name='b.png', answer=truth, pred_answer='', kind='k'))


def test_a_kind_does_not_hide_behind_the_mean():
    with pytest.raises(ValueError, match="expected as kind a text, and another than 'mean', as th"):
        scores(dict(answer='a', pred_answer='a', kind='mean'))


def test_kinds_are_texts():
    """None beside others could not be sorted, after the whole evaluation."""
    two = dict(answer='a', pred_answer='a', kind=None), dict(answer='a', pred_answer='b', kind='k')
    assert scores(*two) == {'answers/k': 0, 'answers/other': 100, 'answers/mean': 50}
    with pytest.raises(ValueError, match=r'^b\.png: expected as kind a text, .* found 1$'):
        scores(dict(name='b.png', answer='a', pred_answer='a', kind=1))

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

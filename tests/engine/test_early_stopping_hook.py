from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from mmengine.hooks import EarlyStoppingHook as BaseEarlyStoppingHook

from mmseg_siglip.engine import EarlyStoppingHook
from mmseg_siglip.registry import HOOKS

NAN, INF = float('nan'), float('inf')


def feed(hook, scores):
    """How many scores a training lives through, and what its log says."""
    lines = []
    logger = SimpleNamespace(info=lines.append, warning=lines.append)
    runner = SimpleNamespace(train_loop=SimpleNamespace(stop_training=False), logger=logger, iter=0)
    hook.before_train(runner)
    for count, score in enumerate(scores, 1):
        hook.after_val_epoch(runner, {'mIoU': score})
        if runner.train_loop.stop_training:
            return count, lines
    return None, lines


def build(**options):
    return HOOKS.build(dict(dict(type='EarlyStoppingHook', monitor='mIoU'), **options))


@pytest.mark.parametrize('wrong', [NAN, INF, -INF, None, torch.tensor(NAN)])
@pytest.mark.parametrize('rule', ['greater', 'less'])
def test_what_is_no_number_is_not_the_best(wrong, rule):
    hook = build(check_finite=False, patience=3, rule=rule)
    count, lines = feed(hook, [0.5, wrong, wrong, wrong, 0.9])
    assert (count, hook.best_score) == (4, 0.5)
    assert lines[0] == f'mIoU is {wrong}, which is no improvement.'
    assert lines[-1] == 'mIoU did not improve in the last 3 records; the best is 0.500.'
    hook = build(check_finite=False, patience=3, rule=rule)
    better = 0.9 if rule == 'greater' else 0.1
    assert feed(hook, [wrong, wrong, 0.5, wrong, better])[0] is None
    assert (hook.best_score, hook.wait_count) == (better, 0)


@pytest.mark.parametrize('wrong', [NAN, INF, None])
def test_it_stops_at_once_where_finiteness_is_asked_for(wrong):
    count, lines = feed(build(), [0.5, wrong, 0.7])
    assert count == 2 and 'is infinite. Previous best value was 0.500' in lines[0]


@pytest.mark.parametrize(
    'options',
    [{}, dict(patience=2), dict(min_delta=0.3), dict(stopping_threshold=0.7), dict(rule='less')],
)
def test_numbers_are_judged_as_by_mmengine(options):
    scores = [0.1, 0.4, 0.45, 0.46, 0.47, 0.9, 0.2, 0.3, 0.1, 0.1, 0.1, 0.1]
    ours, theirs = build(**options), BaseEarlyStoppingHook('mIoU', **options)
    theirs.before_train = lambda runner: None
    assert feed(ours, scores) == feed(theirs, scores)
    assert (ours.best_score, ours.wait_count) == (theirs.best_score, theirs.wait_count)


@pytest.mark.parametrize(
    ('options', 'sentence'),
    [
        (dict(min_delta=-0.1), 'min_delta: expected 0 or more, found -0.1'),
        (dict(min_delta=NAN), 'min_delta: expected 0 or more, found nan'),
        (dict(patience=0), 'patience: expected 1 or more, found 0'),
    ],
)
def test_what_would_never_or_always_stop_is_refused(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        EarlyStoppingHook('mIoU', **options)


def test_a_resumed_training_says_that_it_counts_anew():
    lines = []
    runner = SimpleNamespace(iter=8, logger=SimpleNamespace(info=lines.append))
    build().before_train(runner)
    assert lines == ['EarlyStoppingHook knows no mIoU from before iteration 8 and counts anew.']

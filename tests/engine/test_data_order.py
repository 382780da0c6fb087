"""A training that goes on sees its data in the order that it began with."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from mmengine.dataset import InfiniteSampler
from mmengine.runner.loops import _InfiniteDataloaderIterator
from torch.utils.data import DataLoader, SequentialSampler

from mmseg_siglip.engine.data_order import order_of, restore_order

NUMBERS = list(range(12))


def loop(seed: int, *, batch: int = 3) -> SimpleNamespace:
    sampler = InfiniteSampler(NUMBERS, seed=seed)
    loader = DataLoader(NUMBERS, batch_size=batch, sampler=sampler)
    return SimpleNamespace(
        dataloader=loader, dataloader_iterator=_InfiniteDataloaderIterator(loader)
    )


def drawn(training: SimpleNamespace) -> list[int]:
    return [n for _ in range(4) for n in next(training.dataloader_iterator).tolist()]


def test_the_order_comes_back():
    begun = loop(5)
    assert order_of(begun) == dict(batch=3, seed=5)
    resumed = loop(6)
    assert restore_order(resumed, order_of(begun)) == []
    assert drawn(resumed) == drawn(loop(5)) != drawn(loop(6))


def test_another_number_of_samples_a_step_is_told():
    (sentence,) = restore_order(loop(5, batch=2), order_of(loop(5)))
    assert sentence.startswith('The checkpoint is of 3 samples a step, this training of 2:')


@pytest.mark.parametrize('saved', [None, 5, {}, dict(seed='6'), dict(seed=-1), dict(seed=2**40)])
def test_what_is_no_order_changes_none(saved):
    training = loop(5)
    assert restore_order(training, saved) == []
    assert order_of(training) == dict(batch=3, seed=5)
    assert drawn(training) == drawn(loop(5))


def test_a_sampler_without_a_seed():
    loader = DataLoader(NUMBERS, batch_size=4, sampler=SequentialSampler(NUMBERS))
    assert order_of(SimpleNamespace(dataloader=loader)) == dict(batch=4)

from dataclasses import dataclass

import pytest

from mmseg_siglip.web.limits import Limits, Refusal
from mmseg_siglip.web.shelf import Shelf


@dataclass
class Box:
    num_bytes: int


def test_the_oldest_go_when_it_is_full():
    shelf = Shelf(Limits(kept_bytes=100))
    names = [shelf.put(Box(40)) for _ in range(3)]
    assert len(shelf) == 2 and shelf.get(names[2]) == Box(40)
    with pytest.raises(Refusal, match='no longer kept'):
        shelf.get(names[0])
    shelf.put(Box(101))
    assert len(shelf) == 0


def test_each_goes_when_its_time_is_over(monkeypatch):
    now = [0.0]
    monkeypatch.setattr('time.monotonic', lambda: now[0])
    shelf = Shelf(Limits(kept_seconds=10))
    first = shelf.put(Box(1))
    now[0] = 6
    second = shelf.put(Box(1))
    assert shelf.get(first)
    now[0] = 11
    assert shelf.get(second) and len(shelf) == 1
    with pytest.raises(Refusal):
        shelf.get(first)


def test_names_cannot_be_guessed():
    shelf = Shelf(Limits())
    names = {shelf.put(Box(1)) for _ in range(100)}
    assert len(names) == 100 and min(map(len, names)) >= 22

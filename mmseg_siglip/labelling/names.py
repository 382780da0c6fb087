"""Any number of names, each as a number of 64 bits."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from hashlib import blake2b

import numpy as np

from mmseg_siglip.labelling.shards import absolute


def number_of(text: str) -> int:
    """64 bits for a name."""
    digest = blake2b(os.fsencode(text), digest_size=8).digest()
    return int.from_bytes(digest, 'little')


def doubled(names: Iterable[str]) -> frozenset[int]:
    """Numbers of the names that come more than once; 8 bytes a name, however long it is."""
    numbers = np.fromiter(map(number_of, names), np.uint64)
    numbers.sort()
    return frozenset(numbers[1:][numbers[1:] == numbers[:-1]].tolist())


class NumberedNames:
    """Some names, in 8 bytes each.

    Args:
        names: The names.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._numbers = np.fromiter(map(number_of, names), np.uint64)
        self._numbers.sort()

    def __len__(self) -> int:
        return len(self._numbers)

    def __contains__(self, name: str) -> bool:
        number = np.uint64(number_of(name))
        place = np.searchsorted(self._numbers, number)
        return bool(place < len(self._numbers) and self._numbers[place] == number)


def once(
    items: Iterable,
    name_of: Callable[..., str | None],
    place_of: Callable[..., str],
    twice: frozenset[int],
) -> Iterator:
    """Items without those that are there already.

    Args:
        items: What has a name, or None.
        name_of: Its name.
        place_of: Where it lies.
        twice: See `doubled`; what is remembered is of these names alone.

    Raises:
        ValueError: Two have one name, and lie in two places.
    """
    seen: dict[str, str] = {}
    for item in items:
        name = name_of(item) if twice else None
        if name is not None and number_of(name) in twice:
            place = place_of(item)
            if name in seen:
                if absolute(seen[name]) != absolute(place):
                    raise ValueError(f'{place} and {seen[name]} have one name: {name}')
                continue
            seen[name] = place
        yield item

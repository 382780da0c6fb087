"""Any number of names, each as a number of 64 bits, or packed."""

from __future__ import annotations

import gzip
import io
import json
import os
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from hashlib import blake2b

import numpy as np

from mmseg_siglip.labelling.shards import absolute


def number_of(text: str) -> int:
    """64 bits for a name."""
    digest = blake2b(os.fsencode(text), digest_size=8).digest()
    return int.from_bytes(digest, 'little')


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
        return self.index(name) is not None

    def index(self, name: str) -> int | None:
        """Place of a name among the numbers, None of one that is not there."""
        numbers, number = memoryview(self._numbers), number_of(name)
        place = bisect_left(numbers, number)
        return place if place < len(numbers) and numbers[place] == number else None


def doubled(names: Iterable[str]) -> NumberedNames:
    """The names that come more than once; 8 bytes a name, however long it is."""
    found = NumberedNames(names)
    numbers = found._numbers
    found._numbers = np.unique(numbers[1:][numbers[1:] == numbers[:-1]])
    return found


def once(
    items: Callable[[], Iterable],
    name_of: Callable[..., str | None],
    place_of: Callable[..., str],
    twice: NumberedNames,
) -> Iterator:
    """Items without those that are there already.

    Args:
        items: Gives what has a name, or None, again from its start at each call.
        name_of: Its name.
        place_of: Where it lies.
        twice: See `doubled`; what is remembered, 8 bytes each, is of these names alone.

    Raises:
        ValueError: Two have one name, and lie in two places.
    """
    places = np.zeros(len(twice), np.uint64)
    for number, item in enumerate(items()):
        name = name_of(item) if len(twice) else None
        index = None if name is None else twice.index(name)
        if index is not None:
            place = absolute(place_of(item))
            key = np.uint64(number_of(place) or 1)
            if places[index] == key:
                continue
            if places[index]:  # another place, or of two names with one number
                first, other = next(
                    (pair for pair in enumerate(items()) if name_of(pair[1]) == name),
                    (number, item),
                )
                if absolute(place_of(other)) != place:
                    raise ValueError(
                        f'{place_of(item)} and {place_of(other)} have one name: {name}'
                    )
                if first < number:
                    continue
            places[index] = key
        yield item


class PackedNames:
    """Some names in their order, which are much alike, in a few bytes each.

    Args:
        names: The names.
    """

    def __init__(self, names: Iterable[str]) -> None:
        with io.BytesIO() as target:
            with gzip.open(target, 'wt', encoding='ascii') as file:
                file.writelines(f'{json.dumps(name)}\n' for name in names)
            self._data = target.getvalue()

    def __iter__(self) -> Iterator[str]:
        with gzip.open(io.BytesIO(self._data), 'rt', encoding='ascii') as file:
            yield from map(json.loads, file)

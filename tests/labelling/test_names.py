import numpy as np
import pytest

from mmseg_siglip.labelling.names import NumberedNames, doubled, number_of, once


def test_doubled_names():
    found = doubled(['a', 'b', 'a', 'c', 'a', 'b'])
    assert found == {number_of('a'), number_of('b')}
    assert doubled([]) == frozenset() and isinstance(next(iter(found)), int)
    assert number_of('a') < 2**64 and np.uint64(number_of('a')) == number_of('a')


def test_many_names_take_eight_bytes():
    done = NumberedNames(f'shard-{n}' for n in range(5000))
    assert done._numbers.nbytes == 40_000
    assert all(f'shard-{n}' in done for n in range(0, 5000, 97)) and 'shard-5000' not in done


def test_what_comes_twice_from_one_place_comes_once():
    pairs = [('a', '/x/a'), ('b', '/x/b'), ('a', '/x/./a'), (None, '/y')]
    twice = doubled(name for name, _ in pairs if name)

    def kept(pairs):
        return list(once(pairs, lambda pair: pair[0], lambda pair: pair[1], twice))

    assert kept(pairs) == [*pairs[:2], pairs[3]]
    with pytest.raises(ValueError, match='/z/a and /x/a have one name: a'):
        kept([*pairs, ('a', '/z/a')])

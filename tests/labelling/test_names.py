import numpy as np
import pytest

from mmseg_siglip.labelling import names
from mmseg_siglip.labelling.names import NumberedNames, PackedNames, doubled, number_of, once


def test_doubled_names():
    found = doubled(['a', 'b', 'a', 'c', 'a', 'b'])
    assert len(found) == 2 and 'a' in found and 'b' in found and 'c' not in found
    assert not doubled([]) and not doubled('abc')
    assert number_of('a') < 2**64 and np.uint64(number_of('a')) == number_of('a')


def test_many_names_take_eight_bytes():
    done = NumberedNames(f'shard-{n}' for n in range(5000))
    assert done._numbers.nbytes == 40_000
    assert all(f'shard-{n}' in done for n in range(0, 5000, 97)) and 'shard-5000' not in done


def test_what_comes_twice_from_one_place_comes_once():
    pairs = [('a', '/x/a'), ('b', '/x/b'), ('a', '/x/./a'), (None, '/y')]
    twice = doubled(name for name, _ in pairs if name)

    def kept(pairs):
        return list(once(lambda: iter(pairs), lambda pair: pair[0], lambda pair: pair[1], twice))

    assert kept(pairs) == [*pairs[:2], pairs[3]]
    with pytest.raises(ValueError, match='/z/a and /x/a have one name: a'):
        kept([*pairs, ('a', '/z/a')])


def test_two_names_of_one_number_are_two_names(monkeypatch):
    monkeypatch.setattr(names, 'number_of', lambda text: len(text))
    pairs = [('a', '/a'), ('b', '/bb'), ('b', '/bb'), ('a', '/a'), ('c', '/ccc'), ('b', '/b/../bb')]
    twice = doubled(name for name, _ in pairs)

    def kept(pairs):
        return list(once(lambda: iter(pairs), lambda pair: pair[0], lambda pair: pair[1], twice))

    assert len(twice) == 1 and kept(pairs) == [pairs[0], pairs[1], pairs[4]]
    with pytest.raises(ValueError, match='^/bbbb and /bb have one name: b$'):
        kept([*pairs, ('b', '/bbbb')])


def test_packed_names():
    wanted = [f's3://bucket/folder/shard-{n:06d}.tar' for n in range(5000)]
    wanted += ['a\nb', 'ü\udcff', '']
    packed = PackedNames(iter(wanted))
    assert list(packed) == list(packed) == wanted and len(packed._data) < 8 * len(wanted)

import json
import os
import pickle
from collections import OrderedDict

import numpy as np
import pytest

from mmseg_siglip.datasets.refs_file import load_json, load_plain_pickle, load_refs

REF = dict(image_id=1, split='val', ann_id=2, sentences=[dict(raw='A cup', sent='a cup')])


@pytest.mark.parametrize('protocol', range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_containers_of_every_protocol(tmp_path, protocol):
    value = [REF, OrderedDict(a=(1, 2.5)), {3, 4}, None, True, 'é']
    path = tmp_path / 'refs(unc).p'
    path.write_bytes(pickle.dumps(value, protocol=protocol))
    assert load_plain_pickle(path) == value


def test_a_pickle_of_python_2(tmp_path):
    """What ``pickle.dumps([{'raw': 'caf\\xc3\\xa9', 'id': 7L}])`` wrote there."""
    path = tmp_path / 'refs.p'
    path.write_bytes(b"(lp0\n(dp1\nS'raw'\np2\nS'caf\\xc3\\xa9'\np3\nsS'id'\np4\nL7L\nsa.")
    assert load_plain_pickle(path) == [dict(raw='café', id=7)]


class Runs:
    def __init__(self, call, *args):
        self.call = call, args

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    ('value', 'name'),
    [
        (Runs(os.system, 'touch ran'), r'posix\.system'),
        (Runs(eval, 'open("ran", "w")'), 'builtins.eval'),
        (Runs(getattr, OrderedDict, 'mro'), 'builtins.getattr'),
        (np.zeros(2), r'numpy\..*'),
        (os.system, r'posix\.system'),
    ],
)
def test_code_is_refused_by_name_and_not_run(tmp_path, monkeypatch, value, name):
    monkeypatch.chdir(tmp_path)
    for protocol in (0, 2, 5):
        (tmp_path / 'refs.p').write_bytes(pickle.dumps([REF, value], protocol=protocol))
        with pytest.raises(ValueError, match=rf'refused: .* run code from the file, namely {name}'):
            load_refs('refs.p')
    assert not (tmp_path / 'ran').exists()


def test_json_holds_the_same(tmp_path):
    (tmp_path / 'refs.json').write_text(json.dumps([REF]))
    (tmp_path / 'refs.p').write_bytes(pickle.dumps([REF]))
    assert load_refs(tmp_path / 'refs.json') == load_refs(tmp_path / 'refs.p') == [REF]


@pytest.mark.parametrize(
    ('name', 'data', 'sentence'),
    [
        ('a.p', b'\x80\x05\xff', 'a.p is damaged or not a pickle'),
        ('a.p', b'', 'a.p is damaged or not a pickle'),
        ('a.p', pickle.dumps({}), 'a.p: expected a list of references, found dict'),
        ('a.p', pickle.dumps([REF, dict(split='x')]), 'reference 1 lacks image_id, sentences, ann'),
        ('a.json', b'[', 'a.json is not JSON'),
        ('a.json', b'[3]', 'reference 0 lacks image_id'),
        ('a.json', b'\xff\xfe', 'a.json is not JSON'),
        ('a.json', b'[' * 100_000, 'a.json is not JSON: maximum recursion'),
        ('a.p', b'\x80\x02]r\xff\xff\xff\x1f.', '9 bytes claim to hold 536870911 objects'),
        ('a.p', b'(lp99999999\n.', 'bytes claim to hold 99999999 objects'),
        (
            'a.p',
            pickle.dumps([REF | dict(sentences='a')]),
            'reference 0: expected image_id',
        ),
        ('a.p', pickle.dumps([REF | dict(sentences=['a'])]), 'sentences as a list of objects'),
        ('a.p', pickle.dumps([REF | dict(image_id=[1])]), 'reference 0: expected image_id'),
        (
            'a.p',
            pickle.dumps([REF | dict(ann_id=[{}])]),
            'reference 0: expected image_id',
        ),
    ],
)
def test_damage_gets_one_sentence(tmp_path, name, data, sentence):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ValueError, match=sentence):
        load_refs(tmp_path / name)


def test_no_such_file(tmp_path):
    for load in (load_plain_pickle, load_json):
        with pytest.raises(ValueError, match='none.json cannot be read'):
            load(tmp_path / 'none.json')


def test_a_byte_order_mark_and_what_follows_the_end(tmp_path):
    (tmp_path / 'a.json').write_bytes(b'\xef\xbb\xbf[]')
    assert load_json(tmp_path / 'a.json') == []
    (tmp_path / 'a.p').write_bytes(pickle.dumps([REF]) + b'\0\xff')
    assert load_plain_pickle(tmp_path / 'a.p') == [REF]


def test_every_damaged_byte_gets_one_sentence(tmp_path):
    whole = pickle.dumps([REF, REF | dict(ann_id=[3, 4])], protocol=2)
    rng = np.random.default_rng(0)
    for _ in range(300):
        data = bytearray(whole)
        data[rng.integers(len(data))] = rng.integers(256)
        path = tmp_path / 'refs.p'
        path.write_bytes(data[: rng.integers(1, len(data) + 1)] if rng.random() < 0.3 else data)
        try:
            load_refs(path)
        except ValueError as error:
            assert str(error).startswith(str(path))

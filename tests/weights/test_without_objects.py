from __future__ import annotations

import os
import pickle
import struct
from argparse import Namespace
from collections import Counter, OrderedDict, defaultdict
from fractions import Fraction

import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.logging import HistoryBuffer, MMLogger
from peak_memory import refusal
from torch import nn

from mmseg_siglip.weights.checkpoint import is_mmengine_file, load_checkpoint_file
from mmseg_siglip.weights.without_objects import read_without_objects

BOTH = pytest.mark.parametrize('new_format', [True, False])


def save(content, path, new_format=True, **options):
    torch.save(content, path, _use_new_zipfile_serialization=new_format, **options)


class Reduced:
    """Pickled as a call, and with a state."""

    def __init__(self, *reduced):
        self.reduced = reduced

    def __reduce__(self):
        return self.reduced


@BOTH
@pytest.mark.parametrize('protocol', [2, 4])
def test_values_survive_and_objects_are_left_out(tmp_path, new_format, protocol):
    whole = torch.arange(12.0).reshape(3, 4)
    state = OrderedDict(
        all=whole,
        part=whole[1:, ::2],
        half=torch.ones(2, dtype=torch.bfloat16),
        learned=nn.Parameter(torch.ones(3)),
        none=torch.empty(0, 4),
        zero=torch.tensor(3),
    )
    state._metadata = OrderedDict({'': dict(version=2)})
    content = dict(
        state_dict=state,
        meta=dict(
            iter=np.int64(4),
            score=np.float32(0.5),
            good=np.bool_(True),
            table=np.arange(6, dtype='>i4').reshape(2, 3).T,
            args=Namespace(lr=0.1),
            counts=Counter('aab'),
            groups=defaultdict(list, a=[1]),
            both=(1, None, b'\xff', 'a', 1j, {2}, frozenset({3})),
            size=torch.Size([2, 3]),
            kind=torch.float16,
            device=torch.device('cpu'),
            names=np.array(['a']),
            cfg_like=ConfigDict(a=1),
            kept=[1, Fraction(1, 2), 2],
            kind_of=nn.Linear,
        ),
        log=HistoryBuffer([1.0, 2.0], [1, 3], 10),
    )
    content['meta']['self'] = content['meta']
    path = tmp_path / 'a.pth'
    save(content, path, new_format, pickle_protocol=protocol)
    found, left_out = read_without_objects(path)
    for name, tensor in state.items():
        assert torch.equal(found['state_dict'][name], tensor)
        assert found['state_dict'][name].dtype == tensor.dtype
    kept = found['state_dict']
    assert kept['part'].untyped_storage().data_ptr() == kept['all'].untyped_storage().data_ptr()
    assert kept._metadata == state._metadata
    meta = found['meta']
    assert (meta['iter'], meta['score'], meta['good']) == (4, 0.5, True)
    assert torch.equal(meta['table'], torch.tensor([[0, 3], [1, 4], [2, 5]], dtype=torch.int32))
    assert meta['args'] == Namespace(lr=0.1) and meta['both'] == content['meta']['both']
    assert meta['counts'] == dict(a=2, b=1) and meta['groups'] == dict(a=[1])
    assert (meta['size'], meta['kind'], meta['device'].type) == ((2, 3), torch.float16, 'cpu')
    assert meta['kept'] == [1, 2] and meta['self'] is meta
    assert found['log']['values'].tolist() == [1, 2] and found['log']['counts'].tolist() == [1, 3]
    assert found['log']['max_length'] == 10
    assert left_out == {
        'meta.names': 'numpy.ndarray',
        'meta.cfg_like': 'mmengine.config.config.ConfigDict',
        'meta.kept[1]': 'fractions.Fraction',
        'meta.kind_of': 'torch.nn.modules.linear.Linear',
    }
    assert is_mmengine_file(path)


def test_what_is_left_out_is_said(tmp_path, capsys):
    MMLogger.get_instance(f'said{tmp_path.name}')
    content = dict(
        state_dict={'w': torch.ones(1)}, meta=dict(hook=nn.Identity(), score=np.float64(1))
    )
    save(content, tmp_path / 'a.pth')
    found = load_checkpoint_file(tmp_path / 'a.pth')
    assert found['meta'] == dict(score=1.0)
    output = capsys.readouterr()
    said = f'{tmp_path / "a.pth"} is read without meta.hook (torch.nn.modules.linear.Identity)'
    assert said in ' '.join((output.out + output.err).split())


@BOTH
@pytest.mark.parametrize(
    'content',
    [
        nn.Linear(2, 2),
        dict(w=torch.ones(1), x=np.float64(1)),
        dict(state_dict=dict(w=torch.ones(1), x=nn.Identity())),
        dict(state_dict=nn.Identity(), x=np.float64(1)),
    ],
)
def test_weights_are_never_left_out(tmp_path, content, new_format):
    save(content, tmp_path / 'a.pth', new_format)
    with pytest.raises(ValueError, match=r'a\.pth is refused: .* namely .*(linear|numpy)'):
        load_checkpoint_file(tmp_path / 'a.pth')


@BOTH
@pytest.mark.parametrize('first', ['state_dict', 'best'])
def test_weights_that_stand_elsewhere_too_are_never_left_out(tmp_path, first, new_format):
    thing = nn.Identity()
    state = dict(w=torch.ones(1), q=thing)
    for other in (thing, state):
        content = dict(state_dict=state, best=other)
        content = {name: content[name] for name in sorted(content, key=lambda name: name != first)}
        save(content, tmp_path / 'a.pth', new_format)
        with pytest.raises(ValueError, match=r'a\.pth is refused: .* namely .*linear'):
            load_checkpoint_file(tmp_path / 'a.pth')
    save(dict(h=thing, state_dict=dict(w=torch.ones(1)), i=thing), tmp_path / 'a.pth', new_format)
    assert load_checkpoint_file(tmp_path / 'a.pth')['state_dict'].keys() == {'w'}


@BOTH
@pytest.mark.parametrize('protocol', [1, 2])
def test_old_protocols(tmp_path, new_format, protocol):
    content = dict(state_dict={'w': torch.ones(2)}, log=HistoryBuffer([1.0], [1]), s={1, 2})
    save(content, tmp_path / 'a.pth', new_format, pickle_protocol=protocol)
    found = load_checkpoint_file(tmp_path / 'a.pth')
    assert torch.equal(found['state_dict']['w'], torch.ones(2))


@pytest.mark.parametrize('value', [3, [1], 'abc', torch.ones(2), dict(a='b')])
def test_what_a_file_says_was_left_out_is_not_believed(tmp_path, value, capsys):
    MMLogger.get_instance(f'believed{tmp_path.name}')
    save(dict(state_dict={'w': torch.ones(1)}, left_out=value), tmp_path / 'a.pth')
    load_checkpoint_file(tmp_path / 'a.pth')
    output = capsys.readouterr()
    assert 'is read without' not in output.out + output.err


def attacks(bird):
    """What a pickle can try, and whether that is refused by name rather than left out."""
    touch = f'touch {bird}'
    return {
        'system': (Reduced(os.system, (touch,)), 'system'),
        'open': (Reduced(open, (str(bird), 'w')), r'io\.open'),
        'eval': (Reduced(eval, (f'open({str(bird)!r}, "w")',)), r'builtins\.eval'),
        'nested': ([{'a': (Reduced(os.system, (touch,)),)}], 'system'),
        'getattr': (Reduced(getattr, (HistoryBuffer, '__init__')), None),
        'load': (Reduced(torch.load, (str(bird),)), None),
        'state': (Reduced(HistoryBuffer, (), {'_log_history': 3, '__class__': 'x'}), None),
        'function': (Reduced(torch._utils._rebuild_tensor_v2, (1, 2), {'__code__': 1}), None),
        'hidden': (Reduced(np.dtype, ('O',)), None),
    }


@BOTH
@pytest.mark.parametrize('name', attacks(''))
def test_nothing_runs(tmp_path, name, new_format):
    bird = tmp_path / 'bird'
    thing, refused = attacks(bird)[name]
    save(dict(state_dict={'w': torch.ones(2)}, x=thing), tmp_path / 'evil.pth', new_format)
    if refused:
        with pytest.raises(ValueError, match=rf'is refused: .* namely .*{refused}'):
            load_checkpoint_file(tmp_path / 'evil.pth')
    else:
        try:
            found = load_checkpoint_file(tmp_path / 'evil.pth')
        except ValueError as error:
            assert 'evil.pth' in str(error) and '\n' not in str(error)
        else:
            assert list(found) == ['state_dict', 'left_out']
            assert all(place.startswith('x') for place in found['left_out'])
    assert not bird.exists()


def raw(opcodes, tmp_path):
    """A file of the old format with an object of some opcodes beside its weights."""
    save(dict(state_dict={'w': torch.ones(2)}, x='HERE'), tmp_path / 'good.pth', False)
    content = (tmp_path / 'good.pth').read_bytes()
    text = pickle.BINUNICODE + struct.pack('<I', 4) + b'HERE'
    assert content.count(text) == 1
    path = tmp_path / 'evil.pth'
    path.write_bytes(content.replace(text, b'cany.where\nThing\n0' + opcodes))
    return path


def text_of(word):
    return b'X' + struct.pack('<I', len(word)) + word


STATE = b'}' + text_of(b'function') + b'N' + b's'
TUPLE = b'K\x01K\x02K\x03\x87'
OPCODES = {
    'a dotted name': text_of(b'any') + text_of(b'load.__globals__') + b'\x93',
    'a dotted name of ours': text_of(b'collections')
    + text_of(b'OrderedDict.__init__.__class__')
    + b'\x93',
    'the state of a class': b'cmmengine.logging.history_buffer\nHistoryBuffer\n' + STATE + b'b',
    'the state of a function': b'ctorch._utils\n_rebuild_tensor_v2\n' + STATE + b'b',
    'slots of a function': b'ctorch._utils\n_rebuild_tensor_v2\nN' + STATE + b'\x86b',
    'slots of a class': b'cargparse\nNamespace\nN' + STATE + b'\x86b',
    'an attribute of a dict': b'ccollections\nOrderedDict\n)R' + STATE + b'b',
    'an unknown number': b'h\xfe',
    'an extension': b'\x82\x01',
    'a foreign reference': TUPLE + b'Q',
    'a call of a number': b'K\x01)R',
    'a new object of a function': b'ctorch._utils\n_rebuild_tensor_v2\n)\x81',
    'items of a stand-in': b'cany\nThing\n)R' + text_of(b'a') + b'K\x01s',
    'appended to a stand-in': b'cany\nThing\n)RK\x01a',
}


@pytest.mark.parametrize('name', OPCODES)
def test_opcodes_change_nothing(tmp_path, name):
    from mmseg_siglip.weights import stand_ins

    before = {key: repr(value) for key, value in stand_ins.KNOWN.items()}
    try:
        found = load_checkpoint_file(raw(OPCODES[name], tmp_path))
    except ValueError as error:
        assert 'evil.pth' in str(error) and '\n' not in str(error)
    else:
        assert torch.equal(found['state_dict']['w'], torch.ones(2))
    assert {key: repr(value) for key, value in stand_ins.KNOWN.items()} == before
    assert not hasattr(Namespace, 'function') and not hasattr(stand_ins.History, 'function')
    path = tmp_path / 'history.pth'
    save(dict(state_dict={}, log=HistoryBuffer([1.0], [1])), path)
    assert load_checkpoint_file(path)['log']['values'].tolist() == [1]


def test_small_files_get_no_memory(tmp_path):
    """Some megabytes as many arrays, as bytes and as a storage that is not there."""
    array = np.zeros(2**17)
    shape, kind, data = array.__reduce__()[2][1:3] + (array.tobytes(),)
    many = [Reduced(*array.__reduce__()[:2], (1, shape, kind, False, data)) for _ in range(300)]
    save(dict(state_dict={}, x=many), tmp_path / 'arrays.pth')
    said, megabytes = refusal(lambda: load_checkpoint_file(tmp_path / 'arrays.pth'))
    assert 'claims to hold more arrays' in said and megabytes < 128
    save(dict(state_dict={'w': torch.ones(7)}, x=np.float64(1)), tmp_path / 'old.pth', False)
    content = (tmp_path / 'old.pth').read_bytes()
    number = b'cpu' + b'q\x0bK\x07N'
    start = content.index(b'cpu')
    old = content[start : content.index(b'K\x07', start) + 2]
    assert content.count(old) == 1 and number[:3] == old[:3]
    wide = old[:-2] + b'J' + struct.pack('<i', 2**30)
    (tmp_path / 'old.pth').write_bytes(content.replace(old, wide))
    said, megabytes = refusal(lambda: load_checkpoint_file(tmp_path / 'old.pth'))
    assert 'claim to hold' in said and megabytes < 64


def test_places_and_names_fill_no_memory(tmp_path):
    """One long key at each of many depths; a class that is lists of lists."""
    deep = inner = {}
    key = 'k' * 300
    for _ in range(120):
        inner[key] = inner = {}
    inner['x'] = nn.Identity()
    save(dict(state_dict={}, x=deep), tmp_path / 'deep.pth')
    (place,) = load_checkpoint_file(tmp_path / 'deep.pth')['left_out']
    assert place.startswith('x.kkk') and len(place) == 200
    lists = b']q\x600' + b''.join(b'](h%ch%ceq%c0' % (n - 1, n - 1, n) for n in range(0x61, 0x7B))
    path = raw(lists + b'ccopyreg\n_reconstructor\n(h\x7atR', tmp_path)
    said, megabytes = refusal(lambda: load_checkpoint_file(path))
    assert said is None and megabytes < 64
    assert load_checkpoint_file(path)['left_out'] == dict(x='list')


def test_storages_of_the_old_format_are_added_up(tmp_path):
    state = {str(index): torch.empty(0) for index in range(2000)}
    save(dict(state_dict=state, x=np.float64(1)), tmp_path / 'a.pth', False)
    assert len(load_checkpoint_file(tmp_path / 'a.pth')['state_dict']) == 2000

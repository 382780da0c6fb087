"""What small files ask for, and what it costs to refuse them."""

from __future__ import annotations

import json
import pickle
import re
import struct
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
import torch
from peak_memory import refusal
from torch import nn

from mmseg_siglip.weights.checkpoint import load_checkpoint_file
from mmseg_siglip.weights.claims import check_pickle, check_size, globals_of, room_for, tensors_of

MEGABYTES = 64


def rewrite(source, target, change, **options):
    """A zip file with other contents; `change` gets each member's name and content."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, 'w', **options) as new:
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))


def in_pickle(old, new):
    def change(name, content):
        if not name.endswith('data.pkl'):
            return content
        assert content.count(old) == 1
        return content.replace(old, new)

    return change


def zeros(name, content):
    return bytes(200 << 20) if name.endswith('data/0') else content


def memo(name, content):
    """TorchScript's pickle after one object with the number 60 million."""
    if not name.endswith('data.pkl'):
        return content
    return content[:2] + b'Nr' + struct.pack('<I', 60_000_000) + b'0' + content[2:]


SHAPE, STRIDE = b'K\x03K\x04\x86', b'K\x04K\x01\x86'
WIDE = b'J' + struct.pack('<i', 2**30) + b'K\x04\x86'
NO_STRIDE = b'K\x00K\x00\x86'
EMPTY = {'w': torch.arange(12.0).reshape(3, 4)}


def spread(name, content):
    """Some billions of elements over a storage of twelve."""
    return in_pickle(STRIDE, NO_STRIDE)(name, in_pickle(SHAPE, WIDE)(name, content))


def room(name, content):
    """The number of bytes that Python's bytearray shall make."""
    if not name.endswith('data.pkl'):
        return content
    number = b'J' + struct.pack('<i', 200 << 20) + b'\x85R0'
    return content[:2] + b'cbuiltins\nbytearray\n' + number + content[2:]


CLAIMS = {
    'zeros': (zeros, 'bytes claim to hold', dict(compression=zipfile.ZIP_DEFLATED)),
    'spread': (spread, 'claim to hold w of', {}),
    'room': (room, r'namely builtins\.bytearray', {}),
    'memo': (memo, 'claim to hold 60000000 objects', {}),
}


@pytest.mark.parametrize('name', CLAIMS)
def test_a_small_file_gets_no_memory(tmp_path, name):
    change, message, options = CLAIMS[name]
    good, bad = tmp_path / 'good.pth', tmp_path / 'bad.pth'
    if change is memo:
        torch.jit.script(nn.Linear(2, 2)).save(good)
    else:
        torch.save(EMPTY, good)
    rewrite(good, bad, change, **options)
    assert bad.stat().st_size < 10**6
    assert refusal(lambda: load_checkpoint_file(good))[0] is None
    said, megabytes = refusal(lambda: load_checkpoint_file(bad))
    assert str(bad) in said and re.search(message, said) and '\n' not in said
    assert megabytes < MEGABYTES


def test_names_in_a_pickle():
    content = [OrderedDict(), np.arange(3), np.float64(1), nn.Linear]
    for protocol in range(6):
        names = globals_of(pickle.dumps(content, protocol=protocol))
        assert {'collections.OrderedDict', 'numpy.dtype'} <= set(names)
        assert 'torch.nn.modules.linear.Linear' in names
        assert globals_of(pickle.dumps(content, protocol=protocol)[:-20])
    assert globals_of(b'no pickle') == []


def test_names_in_a_file_that_claims_more_than_it_has(tmp_path):
    """BYTEARRAY8 of 4 TB, for which Python's file would make room before it reads."""
    claims = pickle.dumps(OrderedDict)[:-1] + b'\x96' + (1 << 42).to_bytes(8, 'little') + b'x'
    (tmp_path / 'a.pth').write_bytes(claims)
    with (tmp_path / 'a.pth').open('rb') as file:
        assert globals_of(file) == globals_of(claims) == ['collections.OrderedDict']


def test_numbers_in_a_pickle():
    data = pickle.dumps(list(range(100)), protocol=2)
    check_pickle(data)
    with pytest.raises(ValueError, match='claim to hold 4294967295 objects'):
        check_pickle(data[:2] + b'Nr' + b'\xff' * 4 + b'0' + data[2:])
    with pytest.raises(ValueError):
        check_pickle(data[:-1])


def test_tensors_of_nested_things_are_found_once():
    weight = torch.ones(2)
    inner = dict(w=weight)
    inner['self'] = inner
    nested = dict(a=inner, b=[inner, (weight, 3)], c='text')
    assert sorted(name for name, _ in tensors_of(nested)) == ['0', 'w']


def test_a_model_is_no_larger_than_its_weights():
    def build():
        return nn.Linear(10_000, 10_000)

    check_size(build, 4 * 10**8, 'x')
    with pytest.raises(
        ValueError, match=r'^x: .* that 1000 bytes .* found one of 100010000 weights'
    ):
        check_size(build, 1000, 'x')


def test_many_tensors_over_one_storage(tmp_path):
    row = torch.zeros(1000)
    tied = {str(i): row for i in range(16)}
    torch.save(tied, tmp_path / 'tied.pth')
    assert len(load_checkpoint_file(tmp_path / 'tied.pth')) == 16
    spread = {str(i): torch.zeros(1).expand(250_000) for i in range(100)}
    torch.save(spread, tmp_path / 'spread.pth')
    with pytest.raises(ValueError, match=r'spread\.pth .* claim to hold \d+ of 1000000'):
        load_checkpoint_file(tmp_path / 'spread.pth')


@pytest.mark.parametrize(
    'entry',
    [
        dict(dtype='F32', shape=[10**9], data_offsets=[0, 4 * 10**9]),
        dict(dtype='F32', shape=[10**9], data_offsets=[0, 4]),
        dict(dtype='F32', shape=[2**40, 2**40], data_offsets=[0, 4]),
        dict(dtype='F32', shape=[-1], data_offsets=[0, 4]),
        dict(dtype='F99', shape=[1], data_offsets=[0, 4]),
        dict(shape=[1]),
        [1],
    ],
)
def test_what_safetensors_claim(tmp_path, entry):
    header = json.dumps(dict(w=entry)).encode()
    (tmp_path / 'a.safetensors').write_bytes(struct.pack('<Q', len(header)) + header + bytes(4))
    said, megabytes = refusal(lambda: load_checkpoint_file(tmp_path / 'a.safetensors'))
    assert re.search(r'a\.safetensors is a damaged safetensors file', said)
    assert '\n' not in said and megabytes < MEGABYTES


@pytest.mark.filterwarnings('ignore')
def test_other_tensors_are_refused(tmp_path):
    torch.save({'w': torch.eye(3).to_sparse()}, tmp_path / 'a.pth')
    with pytest.raises(ValueError, match=r'a\.pth .* expected plain tensors, found w'):
        load_checkpoint_file(tmp_path / 'a.pth')
    torch.save({'w': torch.empty(3, device='meta')}, tmp_path / 'b.pth')
    with pytest.raises(ValueError, match=r'b\.pth .* expected tensors on the CPU, found w on meta'):
        load_checkpoint_file(tmp_path / 'b.pth')


def test_a_pickle_of_python_2_may_hold_any_bytes():
    """A string of protocol 0 is a line of them, which `pickletools.genops` takes for ASCII."""
    check_pickle(b"(lp0\nS'caf\xc3\xa9'\np1\na.")
    with pytest.raises(ValueError, match='its 17 bytes claim to hold 99 objects'):
        check_pickle(b"(lp0\nS'\xc3\xa9'\np99\na.")
    with pytest.raises(ValueError, match=r"found the byte b'\\xff' at 2"):
        check_pickle(b'\x80\x02\xff')
    with pytest.raises(ValueError, match='found no end'):
        check_pickle(b'')


def test_no_more_weights_than_there_is_room_for():
    with room_for(45, 'x'):
        tied = nn.Linear(4, 4)
        nn.Linear(4, 4, bias=False).weight = tied.weight
        nn.BatchNorm1d(1)
    with pytest.raises(ValueError, match=r'^x: .* at most 39 weights.* found more \(weight \(5, 5'):
        with room_for(39, 'x'):
            nn.Linear(4, 4)
            nn.Linear(5, 5)
    with pytest.raises(ValueError, match='at most 30'), room_for(30, 'x'):
        nn.Module().register_buffer('a', torch.zeros(31))
    nn.Linear(40, 40)

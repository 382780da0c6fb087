from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest
import torch
from peak_memory import refusal

from mmseg_siglip.weights.npz import is_npz, read_npz


def test_numbers_survive(tmp_path):
    whole, number = np.arange(6.0).reshape(2, 3).T, np.float32(2)
    np.savez_compressed(tmp_path / 'a.npz', **{'a/b': whole, 'c': number})
    assert is_npz(tmp_path / 'a.npz')
    found = read_npz(tmp_path / 'a.npz')
    assert torch.equal(found['a/b'], torch.from_numpy(whole)) and found['c'].item() == 2


def test_other_files_are_none(tmp_path):
    torch.save({}, tmp_path / 'a.pth')
    (tmp_path / 'b').write_bytes(b'PK')
    assert not is_npz(tmp_path / 'a.pth') and not is_npz(tmp_path / 'b')


def test_objects_are_refused(tmp_path):
    np.savez(tmp_path / 'a.npz', a=np.array([print], dtype=object))
    with pytest.raises(ValueError, match=r'a\.npz is damaged or holds no numbers: Object arrays'):
        read_npz(tmp_path / 'a.npz')
    np.savez(tmp_path / 'b.npz', a=np.array(['a']))
    with pytest.raises(ValueError, match=r'b\.npz is damaged or holds no numbers'):
        read_npz(tmp_path / 'b.npz')


def test_a_small_file_gets_no_memory(tmp_path):
    header = io.BytesIO()
    numbers = dict(descr='<f4', fortran_order=False, shape=(2**28,))
    np.lib.format.write_array_header_1_0(header, numbers)
    with zipfile.ZipFile(tmp_path / 'a.npz', 'w') as archive:
        archive.writestr('a.npy', header.getvalue())
    said, megabytes = refusal(lambda: read_npz(tmp_path / 'a.npz'))
    assert 'claim to hold an array of 1073741824' in said and megabytes < 64
    with zipfile.ZipFile(tmp_path / 'b.npz', 'w', zipfile.ZIP_DEFLATED) as archive:
        archive.writestr('a.npy', header.getvalue() + bytes(200 << 20))
    said, megabytes = refusal(lambda: read_npz(tmp_path / 'b.npz'))
    assert 'bytes claim to hold' in said and megabytes < 64

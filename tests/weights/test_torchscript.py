from __future__ import annotations

import pickle
import zipfile

import pytest
import torch
from torch import nn

from mmseg_siglip.weights.torchscript import is_torchscript, read_torchscript

pytestmark = pytest.mark.filterwarnings('ignore')


class Tower(nn.Module):
    """Tied weights, half precision, buffers of both kinds, a plain tensor, lists and integers."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(3, 4)
        self.tied = self.embed
        self.norm = nn.BatchNorm1d(4)
        self.blocks = nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4)])
        self.scale = nn.Parameter(torch.tensor(2.5))
        self.low = nn.Parameter(torch.randn(5, 2).half().t())
        self.register_buffer('grid', torch.arange(6).view(2, 3))
        self.register_buffer('hidden', torch.ones(2), persistent=False)
        self.plain = torch.zeros(3)
        self.names = ['a', 'b']
        self.sizes = [1, 2, 3]

    def forward(self, x):
        x = self.norm(self.tied(self.embed(x)[:, :3])) * self.scale + len(self.names)
        for block in self.blocks:
            x = block(x)
        return x + self.hidden.sum() + self.low.float().sum() + self.plain.sum() + self.grid.sum()


def archives(folder):
    tower = Tower().eval()
    scripted, traced = folder / 'scripted.pt', folder / 'traced.pt'
    torch.jit.script(tower).save(scripted)
    torch.jit.trace(tower, torch.randn(2, 3)).save(traced)
    return scripted, traced


def test_equals_the_state_dict_of_torch(tmp_path):
    torch.manual_seed(0)
    for path in archives(tmp_path):
        assert is_torchscript(path)
        expected = torch.jit.load(path).state_dict()
        found = read_torchscript(path)
        assert list(found) == list(expected)
        for name, tensor in expected.items():
            assert found[name].dtype == tensor.dtype
            assert torch.equal(found[name], tensor), name
        assert len(found) > 10


def test_integers_of_the_outermost_module_are_kept(tmp_path):
    tower = nn.Linear(2, 2)
    tower.input_resolution = 224
    torch.jit.script(tower).save(tmp_path / 'model.pt')
    found = read_torchscript(tmp_path / 'model.pt')
    assert found['input_resolution'].item() == 224
    assert set(found) == {'weight', 'bias', 'input_resolution'}


def replace_pickle(source, target, payload):
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, 'w') as new:
        for name in old.namelist():
            new.writestr(name, payload if name.endswith('/data.pkl') else old.read(name))


class Canary:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), 'w')


def test_an_archive_that_would_run_code_is_refused_by_name(tmp_path):
    scripted, _ = archives(tmp_path)
    bird = tmp_path / 'bird'
    replace_pickle(scripted, tmp_path / 'evil.pt', pickle.dumps(Canary(bird), protocol=2))
    with pytest.raises(ValueError, match=r'evil\.pt cannot be read: it refers to io\.open'):
        read_torchscript(tmp_path / 'evil.pt')
    assert not bird.exists()


@pytest.mark.parametrize('name', ['torch.jit.load', 'os.system', 'builtins.getattr'])
def test_globals_are_looked_up_in_a_table_and_nowhere_else(tmp_path, name):
    scripted, _ = archives(tmp_path)
    module, _, attribute = name.rpartition('.')
    payload = f'c{module}\n{attribute}\n.'.encode()
    replace_pickle(scripted, tmp_path / 'evil.pt', payload)
    with pytest.raises(ValueError, match=f'refers to {name}'):
        read_torchscript(tmp_path / 'evil.pt')


def test_a_tensor_may_not_reach_outside_its_storage(tmp_path):
    scripted, _ = archives(tmp_path)
    with zipfile.ZipFile(scripted) as archive:
        data = archive.read('scripted/data.pkl')
    grid = b'K\x02K\x03t'
    assert data.count(grid) == 1
    replace_pickle(scripted, tmp_path / 'evil.pt', data.replace(grid, b'K\x7fK\x7ft'))
    with pytest.raises(ValueError, match='damaged TorchScript archive'):
        read_torchscript(tmp_path / 'evil.pt')


def test_a_damaged_archive_is_one_sentence(tmp_path):
    scripted, _ = archives(tmp_path)
    content = bytearray(scripted.read_bytes())
    at = content.index(torch.arange(6).numpy().tobytes())
    content[at] = 255
    scripted.write_bytes(content)
    with pytest.raises(ValueError, match=r'scripted\.pt is a damaged TorchScript archive: Bad CRC'):
        read_torchscript(scripted)


def test_other_files_are_not_torchscript(tmp_path):
    torch.save({'a': torch.ones(1)}, tmp_path / 'weights.pth')
    (tmp_path / 'text').write_text('PK')
    assert not is_torchscript(tmp_path / 'weights.pth')
    assert not is_torchscript(tmp_path / 'text')
    with pytest.raises(ValueError, match='is not a TorchScript archive'):
        read_torchscript(tmp_path / 'weights.pth')


def raw(tmp_path, opcodes):
    """A module with an attribute ``w`` of some opcodes, and an empty storage ``0``."""
    module = b'c__torch__\nM\n)\x81}X\x01\x00\x00\x00w' + opcodes + b'sb.'
    path = tmp_path / 'evil.pt'
    with zipfile.ZipFile(path, 'w') as archive:
        for name, content in (
            ('data.pkl', b'\x80\x02' + module),
            ('constants.pkl', b''),
            ('data/0', b''),
        ):
            archive.writestr(f'evil/{name}', content)
    return path


FUNCTION = b'ctorch._utils\n_rebuild_tensor_v2\n'
STORAGE = (
    b'(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x00tQ'
)
TENSOR = FUNCTION + b'(' + STORAGE + b'K\x00K\x00\x85K\x01\x85\x89NtR'


@pytest.mark.parametrize(
    ('opcodes', 'message'),
    [
        (
            FUNCTION + b'N}X\x0c\x00\x00\x00__defaults__X\x01\x00\x00\x00x\x85s\x86b',
            'changes a function',
        ),
        (FUNCTION + b'}b', 'changes a function'),
        (TENSOR + b'(' + STORAGE + b'K\x00J\x40\x0d\x03\x00\x85K\x01\x85tb', 'changes a tensor'),
        (TENSOR + b'\x88N}\x87b', 'changes a tensor'),
    ],
)
def test_what_a_pickle_may_call_it_cannot_change(tmp_path, opcodes, message):
    """`BUILD` sets a state: defaults of a function, or another storage, size and hooks."""
    with pytest.raises(ValueError, match=rf'evil\.pt .*{message}'):
        read_torchscript(raw(tmp_path, opcodes))


def test_the_same_file_without_the_change_is_read(tmp_path):
    (tensor,) = read_torchscript(raw(tmp_path, TENSOR)).values()
    assert tensor.shape == (0,)

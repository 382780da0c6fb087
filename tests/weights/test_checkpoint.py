from __future__ import annotations

import logging
import os
import pickle
import shutil
from argparse import Namespace
from collections import OrderedDict, deque
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch.serialization import get_unsafe_globals_in_checkpoint

from mmseg_siglip.weights.checkpoint import (
    drop_configs,
    is_mmengine_checkpoint,
    is_mmengine_file,
    is_whole,
    load_checkpoint_file,
    newest_checkpoint,
    step_of,
    to_plain,
)


class Canary:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), 'w')


@pytest.mark.parametrize('name', ['a.safetensors', 'a.bin', 'a.pth'])
def test_safetensors_are_known_by_their_contents(tmp_path, name):
    save_file({'w': torch.arange(3.0)}, tmp_path / name)
    assert torch.equal(load_checkpoint_file(tmp_path / name)['w'], torch.arange(3.0))


@pytest.mark.parametrize('new_format', [True, False])
def test_torch_files_old_and_new(tmp_path, new_format):
    path = tmp_path / 'a.pth'
    torch.save({'w': torch.ones(2)}, path, _use_new_zipfile_serialization=new_format)
    assert torch.equal(load_checkpoint_file(str(path))['w'], torch.ones(2))


@pytest.mark.parametrize('new_format', [True, False])
def test_arguments_of_a_command_are_plain(tmp_path, new_format):
    content = dict(args=Namespace(lr=0.1, names=['a']), state_dict={'w': torch.ones(2)})
    torch.save(content, tmp_path / 'a.pth', _use_new_zipfile_serialization=new_format)
    assert load_checkpoint_file(tmp_path / 'a.pth')['args'] == content['args']
    torch.save(dict(args=Namespace(x=Canary(tmp_path / 'bird'))), tmp_path / 'b.pth')
    with pytest.raises(ValueError, match=r'namely _?io\.open;'):
        load_checkpoint_file(tmp_path / 'b.pth')


@pytest.mark.parametrize('new_format', [True, False])
def test_a_file_that_would_run_code_is_refused_by_name(tmp_path, new_format):
    bird = tmp_path / 'bird'
    path = tmp_path / 'evil.pth'
    content = {'state_dict': {}, 'x': Canary(bird)}
    torch.save(content, path, _use_new_zipfile_serialization=new_format)
    with pytest.raises(ValueError, match=r'evil\.pth is refused.*io\.open') as caught:
        load_checkpoint_file(path)
    assert '\n' not in str(caught.value)
    assert not bird.exists()


@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize('protocol', range(6))
def test_a_bare_pickle_is_refused_by_what_it_refers_to(tmp_path, protocol):
    bird = tmp_path / 'bird'
    content = dict(weight=np.arange(3), x=Canary(bird))
    (tmp_path / 'evil.pkl').write_bytes(pickle.dumps(content, protocol=protocol))
    with pytest.raises(ValueError, match=r'evil\.pkl is refused: .* namely .*io\.open.*numpy'):
        load_checkpoint_file(tmp_path / 'evil.pkl')
    assert not bird.exists()


def test_arrays_of_big_vision_are_read(tmp_path):
    path = tmp_path / 'siglip.npz'
    np.savez(path, **{'params/img/embedding/kernel': np.arange(3.0)})
    found = load_checkpoint_file(path)
    assert found['params/img/embedding/kernel'].tolist() == [0, 1, 2]
    assert not is_mmengine_file(path)


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (b'', r'is empty'),
        (b'<html>not found</html>', r'not a checkpoint'),
        (b'\x10\0\0\0\0\0\0\0{"a":', r'damaged safetensors'),
        (b'PK\x03\x04' + bytes(100), r'damaged or not a checkpoint'),
    ],
)
def test_what_is_no_checkpoint_is_one_sentence(tmp_path, content, message):
    path = tmp_path / 'bad.pth'
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        load_checkpoint_file(path)
    assert str(path) in str(caught.value)
    assert '\n' not in str(caught.value)


def test_a_truncated_file_is_one_sentence(tmp_path):
    torch.save({'w': torch.ones(1000)}, tmp_path / 'a.pth')
    content = (tmp_path / 'a.pth').read_bytes()
    (tmp_path / 'b.pth').write_bytes(content[:-100])
    with pytest.raises(ValueError, match=r'b\.pth is damaged or not a checkpoint') as caught:
        load_checkpoint_file(tmp_path / 'b.pth')
    assert '\n' not in str(caught.value)


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'there is no file .*none\.pth'):
        load_checkpoint_file(tmp_path / 'none.pth')


def test_a_file_without_a_dict(tmp_path):
    torch.save([1], tmp_path / 'a.pth')
    with pytest.raises(ValueError, match='holds a list, expected a dict'):
        load_checkpoint_file(tmp_path / 'a.pth')


def test_configs_are_left_out(tmp_path):
    checkpoint = dict(
        state_dict={},
        meta=dict(cfg='x', config='x', epoch=1),
        message_hub=dict(
            log_scalars={}, runtime_info=dict(cfg='x', iter=3), resumed_keys=dict(cfg=True)
        ),
    )
    torch.save(checkpoint, tmp_path / 'a.pth')
    found = load_checkpoint_file(tmp_path / 'a.pth')
    assert found['meta'] == dict(epoch=1)
    assert found['message_hub'] == dict(log_scalars={}, runtime_info=dict(iter=3), resumed_keys={})
    assert is_mmengine_checkpoint(found)
    assert not is_mmengine_checkpoint({'state_dict': {}})


@pytest.mark.parametrize('new_format', [True, False])
def test_who_saved_a_file_is_told_without_its_tensors(tmp_path, monkeypatch, new_format):
    theirs, others = tmp_path / 'a.pth', tmp_path / 'b.pth'
    options = dict(_use_new_zipfile_serialization=new_format)
    torch.save(dict(state_dict={'w': torch.ones(2)}, meta={}), theirs, **options)
    torch.save({'w': torch.ones(2)}, others, **options)
    save_file({'state_dict': torch.ones(2), 'meta': torch.ones(2)}, tmp_path / 'c.pth')
    with monkeypatch.context() as patch:
        if new_format:  # whoever reads a tensor of a zip file asks it for a storage
            patch.setattr(torch._C.PyTorchFileReader, 'get_storage_from_record', None)
        assert is_mmengine_file(theirs) and not is_mmengine_file(str(others))
        assert not is_mmengine_file(tmp_path / 'c.pth')
    theirs.write_bytes(b'<html>')
    with pytest.raises(ValueError, match=r'a\.pth is not a checkpoint'):
        is_mmengine_file(theirs)


@pytest.mark.parametrize('odd', [{'meta': 3}, {'meta': {}, 'message_hub': []}, {}])
def test_dropping_configs_takes_any_shape(odd):
    drop_configs(odd)


def test_plain_values_survive_and_others_become_plain(tmp_path, caplog):
    state = OrderedDict(w=torch.nn.Parameter(torch.ones(2)))
    state._metadata = OrderedDict({'': dict(version=1)})
    value = dict(
        array=np.arange(4, dtype=np.int32),
        number=np.float64(0.1),
        flag=np.bool_(True),
        names=np.array(['a', 'b']),
        path=Path('x/y'),
        queue=deque([1, 2]),
        state=state,
        both=(1, [None, 'a', b'c', 1j]),
        dtype=torch.float16,
        function=print,
        items=[1, print, 2],
    )
    with caplog.at_level(logging.WARNING):
        plain = to_plain(value)
    path = tmp_path / 'a.pth'
    torch.save(plain, path)
    assert get_unsafe_globals_in_checkpoint(path) == []
    found = torch.load(path, weights_only=True)
    assert torch.equal(found['array'], torch.arange(4, dtype=torch.int32))
    assert (found['number'], found['flag'], found['path']) == (0.1, True, 'x/y')
    assert (found['names'], found['queue']) == (['a', 'b'], [1, 2])
    assert found['both'] == (1, [None, 'a', b'c', 1j])
    assert found['state']._metadata == state._metadata
    assert found['dtype'] is torch.float16
    assert 'function' not in found
    assert found['items'] == [1, 2]


def test_what_has_no_plain_form_is_named(capsys):
    from mmengine.logging import MMLogger

    MMLogger.get_instance('plain')
    to_plain(dict(meta=dict(hook=print)))
    output = capsys.readouterr()
    assert 'checkpoint.meta.hook is not saved' in output.out + output.err


def save(path, seconds, cut=None, **parts):
    torch.save({'w': torch.ones(1000), **parts}, path)
    if cut is not None:
        path.write_bytes(path.read_bytes()[:cut])
    os.utime(path, (seconds, seconds))


def test_the_newest_whole_file_is_found(tmp_path):
    save(tmp_path / 'iter_10.pth', 100)
    save(tmp_path / 'iter_20.pth', 200)
    save(tmp_path / 'iter_30.pth', 300, cut=-50)
    save(tmp_path / 'iter_40.pth', 400, cut=0)
    save(tmp_path / 'best_mIoU_iter_20.pth', 500)
    (tmp_path / 'last_checkpoint').write_text('')
    found, damaged = newest_checkpoint(tmp_path)
    assert found == tmp_path / 'iter_20.pth'
    assert [file.name for file in damaged] == ['iter_40.pth', 'iter_30.pth']


def test_a_flipped_bit_is_damage(tmp_path):
    save(tmp_path / 'iter_1.pth', 100)
    assert is_whole(tmp_path / 'iter_1.pth')
    content = bytearray((tmp_path / 'iter_1.pth').read_bytes())
    content[content.index(torch.ones(1000).numpy().tobytes()) + 7] ^= 1
    (tmp_path / 'iter_1.pth').write_bytes(content)
    assert not is_whole(tmp_path / 'iter_1.pth')


def test_a_copy_of_a_run_goes_on_by_itself(tmp_path):
    original, copy = tmp_path / 'run', tmp_path / 'branch'
    original.mkdir()
    save(original / 'iter_2.pth', 100)
    (original / 'last_checkpoint').write_text(str(original / 'iter_2.pth'))
    shutil.copytree(original, copy)
    save(original / 'iter_4.pth', 200)
    assert newest_checkpoint(copy)[0] == copy / 'iter_2.pth'


def test_nothing_to_find(tmp_path):
    assert newest_checkpoint(tmp_path / 'none') == (None, [])
    (tmp_path / 'last_checkpoint').write_bytes(b'\0\0\0')
    assert newest_checkpoint(tmp_path)[0] is None


def test_the_step_decides_and_not_the_time_of_a_copy(tmp_path):
    for second, step in enumerate((10, 8, 9)):
        save(tmp_path / f'iter_{step}.pth', 100 + second)
    assert newest_checkpoint(tmp_path)[0].name == 'iter_10.pth'


def test_of_several_runs_the_last_to_save_goes_on(tmp_path):
    """An old run reached step 8, a new one step 4 by now, and copying mixed all times."""
    found = dict(old=[(4, 40.0), (6, 60.0), (8, 80.0)], new=[(2, 100.0), (4, 120.0)])
    for second, (run, steps) in enumerate(found.items()):
        for step, saved in steps:
            meta = dict(run=run, saved=saved)
            save(tmp_path / f'iter_{step}.pth', 1000 - second, meta=meta)
    save(tmp_path / 'iter_9.pth', 2000)  # of a run that does not say
    assert newest_checkpoint(tmp_path)[0].name == 'iter_4.pth'
    (tmp_path / 'iter_4.pth').write_bytes(b'')
    found, damaged = newest_checkpoint(tmp_path)
    assert (found.name, [file.name for file in damaged]) == ('iter_2.pth', ['iter_4.pth'])


@pytest.mark.parametrize('meta', [3, dict(run=3, saved=1.0), dict(run='a', saved=float('nan'))])
def test_a_stamp_of_another_form_is_none(tmp_path, meta):
    save(tmp_path / 'iter_2.pth', 100, meta=meta)
    save(tmp_path / 'iter_1.pth', 200)
    assert newest_checkpoint(tmp_path)[0].name == 'iter_2.pth'


def test_files_by_other_names_are_no_checkpoints_of_a_run(tmp_path):
    others = ['best_mIoU_iter_9.pth', 'iter_8-1a2b3c4d.pth', '.iter_7.pth', 'resnet50.pth']
    for name in (*others, 'iter_6.pt', 'iter_x.pth', 'iter_-5.pth', 'iter_2.pth'):
        save(tmp_path / name, 100)
    (tmp_path / 'iter_10.pth').mkdir()
    assert newest_checkpoint(tmp_path) == (tmp_path / 'iter_2.pth', [])
    save(tmp_path / 'step-00012.pth', 100)
    assert newest_checkpoint(tmp_path, ['step-{:05d}.pth'])[0].name == 'step-00012.pth'
    assert step_of('step-00012.pth', ['a_{}.pth', 'step-{}.pth']) == 12

from __future__ import annotations

import os
import subprocess
import sys

import mmengine
import pytest
from mmengine.config import Config
from mmengine.hub import get_config
from mmengine.utils import get_installed_path, is_installed
from mmengine.utils.dl_utils import collect_env

from mmseg_siglip import compat


def python(code, repository):
    """The output of a fresh interpreter; what libraries say of their own future is left out."""
    ignored = 'ignore::FutureWarning'
    environment = dict(os.environ, PYTHONPATH=str(repository), PYTHONWARNINGS=ignored)
    return subprocess.run(
        [sys.executable, '-c', code], env=environment, capture_output=True, text=True, timeout=300
    )


def test_importing_us_is_enough_for_mmseg(repository):
    code = """
import mmseg_siglip
import mmseg.models, mmseg.apis, mmseg.datasets, mmseg.evaluation, mmseg.engine
import pkgutil, warnings
from mmcv.utils import ext_loader
from mmseg_siglip import compat
warnings.simplefilter('ignore')
assert ext_loader.check_ops_exist() is not compat.uses_stand_ins()
print('imported')
"""
    result = python(code, repository)
    assert result.stdout == 'imported\n', result.stderr
    assert result.stderr == ''


@pytest.mark.skipif(not compat.uses_stand_ins(), reason='the full mmcv is installed')
def test_a_missing_operator_is_named_when_it_is_called():
    import torch
    from mmcv.ops import nms

    with pytest.raises(RuntimeError, match=r'mmcv\.ops\.nms is a compiled operator.*install'):
        nms(torch.rand(2, 4), torch.rand(2), 0.5)


def test_the_full_mmcv_is_left_alone(repository):
    code = """
import importlib.machinery, importlib.util, sys
from mmcv.utils import ext_loader
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == 'mmcv._ext':
            return importlib.machinery.ModuleSpec(name, None, origin='compiled')
sys.meta_path.insert(0, Finder())
original = ext_loader.load_ext
import importlib
spec = importlib.util.spec_from_file_location('compat', sys.argv[1])
compat = importlib.util.module_from_spec(spec)
spec.loader.exec_module(compat)
print(compat.uses_stand_ins(), ext_loader.load_ext is original)
"""
    environment = dict(os.environ, PYTHONPATH=str(repository))
    result = subprocess.run(
        [sys.executable, '-c', code, str(repository / 'mmseg_siglip' / 'compat.py')],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.stdout == 'False True\n', result.stderr


def test_bases_of_other_packages_without_pkg_resources(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'pkg_resources', None)
    config = tmp_path / 'config.py'
    config.write_text("_base_ = ['mmseg::_base_/schedules/schedule_20k.py']\n")
    assert Config.fromfile(config).train_cfg.max_iters == 20000
    assert get_config('mmseg::fcn/fcn_r50-d8_4xb2-40k_cityscapes-512x1024.py').model.type
    assert is_installed('mmseg') and is_installed('mmsegmentation')
    assert not is_installed('no_such_package')
    with pytest.raises(ModuleNotFoundError, match='no_such_package is not installed'):
        get_installed_path('no_such_package')


@pytest.mark.parametrize('suffix', ['yaml', 'yml'])
def test_yaml_is_data(tmp_path, suffix):
    bird = tmp_path / 'bird'
    evil = tmp_path / f'evil.{suffix}'
    evil.write_text(f"model: !!python/object/apply:builtins.open ['{bird}', 'w']\n")
    for read in (mmengine.load, Config.fromfile):
        with pytest.raises(Exception, match='could not determine a constructor'):
            read(str(evil))
    assert not bird.exists()
    evil.write_text('model: {depth: 3}\n')
    assert Config.fromfile(str(evil)).model.depth == 3
    assert mmengine.load(str(evil)) == dict(model=dict(depth=3))


@pytest.mark.parametrize('first', ['mmseg_siglip', 'mmengine'])
def test_what_is_said_for_debugging_is_not_printed(repository, first):
    code = f"""
import logging, {first}, mmseg_siglip
from mmengine.logging import print_log
print_log('for debugging', level=logging.DEBUG)
print_log('for you')
print_log('for a log', 'silent', logging.DEBUG)
"""
    assert python(code, repository).stdout == 'for you\n'


def test_the_environment_can_be_collected():
    assert {'PyTorch', 'MMEngine', 'OpenCV', 'TorchVision'} <= set(collect_env())


def test_importing_us_imports_nothing_heavy(repository):
    code = """
import sys
import mmseg_siglip
print([name for name in ('torch', 'numpy', 'mmcv', 'mmengine', 'mmseg') if name in sys.modules])
print(mmseg_siglip.models.__name__, 'mmseg' in sys.modules)
"""
    result = python(code, repository)
    assert result.stdout == '[]\nmmseg_siglip.models True\n', result.stderr


ATTACKS = """
import sys, torch
class Canary:
    def __reduce__(self):
        return open, (sys.argv[-1], 'w')
torch.save({'state_dict': {}, 'x': Canary()}, 'evil.pth')
open('evil.yml', 'w').write(f"!!python/object/apply:builtins.open ['{sys.argv[-1]}', 'w']")
def attack():
    for reader, file in ((mmengine.load, 'evil.yml'), (load, 'evil.pth')):
        try:
            reader(file)
        except Exception as error:
            print(' '.join(str(error).split()))
def load(file):
    mmengine.runner.load_checkpoint(torch.nn.Linear(1, 1), file)
"""
OURS_FIRST = 'import mmseg_siglip, mmengine.runner\nattack()'
OURS_LAST = 'import mmengine.runner, mmseg_siglip\nattack()'


@pytest.mark.parametrize('order', [OURS_FIRST, OURS_LAST])
def test_mmengine_reads_as_data_whoever_comes_first(tmp_path, repository, order):
    """With nothing of ours imported but the package."""
    code = ATTACKS + order + "\nprint('mmseg_siglip.registry' in sys.modules)"
    result = subprocess.run(
        [sys.executable, '-c', code, str(tmp_path / 'bird')],
        cwd=tmp_path,
        env=dict(os.environ, PYTHONPATH=str(repository)),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert not (tmp_path / 'bird').exists(), result.stdout
    assert 'could not determine a constructor' in result.stdout, result.stderr
    assert 'evil.pth is refused' in result.stdout and result.stdout.endswith('False\n')

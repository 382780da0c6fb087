from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from types import SimpleNamespace

import pytest


@pytest.fixture(scope='module')
def install(repository):
    path = repository / 'benchmarks' / 'install.py'
    spec = importlib.util.spec_from_file_location('install', path)
    module = sys.modules['install'] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    del sys.modules['install']


def test_every_extra_has_its_requirements(install, repository):
    assert {'train', 'demo', 'tests', 'completion'} <= set(install.extras(repository))


def test_size_counts_a_file_once(install, tmp_path):
    (tmp_path / 'a').mkdir()
    (tmp_path / 'a' / 'one').write_bytes(bytes(2_000_000))
    (tmp_path / 'two').hardlink_to(tmp_path / 'a' / 'one')
    (tmp_path / 'three').write_bytes(bytes(500_000))
    assert install.megabytes(tmp_path) == pytest.approx(2.5)


def test_an_installation(install, tmp_path, monkeypatch):
    """What uv is asked, by a stand-in that makes a file."""
    asked = []

    def run(command, **options):
        asked.append(command)
        if command[1] == 'venv':
            (tmp_path / 'new').mkdir(exist_ok=True)
            (tmp_path / 'new' / 'file').write_bytes(bytes(3_000_000))
        return SimpleNamespace(stdout=json.dumps([dict(name='a'), dict(name='b')]))

    monkeypatch.setattr(subprocess, 'run', run)
    done = install.install('demo', tmp_path / 'new', uv='uv', root=tmp_path)
    assert (done.extra, done.packages, done.megabytes) == ('demo', 2, 3.0) and done.seconds >= 0
    assert [command[1] for command in asked] == ['venv', 'pip', 'venv', 'pip', 'pip']
    assert asked[1][-1] == f'{tmp_path}[demo]' and not (tmp_path / 'new').exists()
    assert asked[-1][-1] == str(tmp_path / 'new' / 'bin' / 'python')


def test_the_table(install):
    rows = [install.Installation('', 80, 6123.4, 20.4), install.Installation('demo', 95, 7000, 31)]
    assert install.table(rows).splitlines()[2:] == [
        '| none | 80 | 6.12 | 20 |',
        '| `demo` | 95 | 7.00 | 31 |',
    ]

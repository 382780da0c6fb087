from __future__ import annotations

import os
import sys
from itertools import product

import matrix
import pytest
from matrix import ENVIRONMENTS, Environment, Failure, examine, last_words, requirements, step

PLAIN = Environment('3.12', 'newest', 'newest')
NO_PYTHON = Environment('3.99', 'oldest', 'oldest')


def test_pairs_that_are_tried():
    pythons = {one.python for one in ENVIRONMENTS}
    ends = ('oldest', 'newest')
    assert {(one.python, one.torch) for one in ENVIRONMENTS} == set(product(pythons, ends))
    assert {(one.python, one.libraries) for one in ENVIRONMENTS} == set(product(pythons, ends))
    assert {(one.torch, one.libraries) for one in ENVIRONMENTS} == set(product(ends, ends))
    hosts = {one.hosts: [] for one in ENVIRONMENTS}
    for one in ENVIRONMENTS:
        hosts[one.hosts].append((one.torch, one.libraries))
    assert hosts.pop('mmcv') == [('oldest', 'newest')] and set(hosts) == {'mmcv-lite', 'onedl'}
    for pairs in hosts.values():
        assert all(set(column) == set(ends) for column in zip(*pairs, strict=True))
    assert len({one.name for one in ENVIRONMENTS}) == len(ENVIRONMENTS)


def test_the_oldest_is_read_from_the_requirements(tmp_path):
    path = tmp_path / 'runtime.txt'
    path.write_text('# torch>=1\ntorch>=2.6\nnumpy\ntimm>=1.0.17\nmmcv-lite>=2,<3\n')
    assert matrix.oldest(path) == {'torch': 'torch==2.6.*', 'timm': 'timm==1.0.17'}


def test_requirements_of_an_environment():
    assert requirements(PLAIN) == (list(matrix.TEST_TOOLS), [])
    wanted, instead = requirements(Environment('3.12', 'oldest', 'oldest', 'onedl'))
    assert {'torch==2.6.*', 'transformers==5.14.*', 'onedl-mmengine'} < set(wanted)
    assert instead[1] == "mmengine; python_version < '3'"
    wanted, instead = requirements(Environment('3.12', 'newest', 'newest', 'mmcv'))
    assert 'mmcv>=2.0.0rc4,<2.2' in wanted and len(instead) == 1


def test_tests_that_run_are_there(repository):
    assert all((repository / path).is_file() for path in matrix.TESTS)


def test_a_python_is_found_or_missing(tmp_path, monkeypatch):
    uv = matrix.find_uv()
    here = '.'.join(map(str, sys.version_info[:2]))
    monkeypatch.setenv('PATH', os.path.dirname(os.path.realpath(sys.executable)))
    assert matrix.find_python(uv, here)
    row = examine(NO_PYTHON, tmp_path / 'none', uv=uv, wheel=tmp_path / 'no.whl')
    assert row['result'] == 'not run: no python3.99 was found' and not row['good']


def test_what_is_not_installed_is_a_row(tmp_path, monkeypatch):
    """No registry is asked: the wheel that is to be installed is not there."""
    monkeypatch.setattr(matrix, 'TEST_TOOLS', ())
    here = Environment('.'.join(map(str, sys.version_info[:2])), 'newest', 'newest')
    wheel = tmp_path / 'mmseg_siglip-0.1.0-py3-none-any.whl'
    monkeypatch.setenv('UV_OFFLINE', '1')
    row = examine(here, tmp_path / here.name, uv=matrix.find_uv(), wheel=wheel)
    assert row['result'].startswith('not installed: ') and not row['good']
    assert (tmp_path / f'{here.name}.log').read_text().startswith('$ ')


@pytest.mark.parametrize(('status', 'good'), [(0, True), (1, False)])
def test_what_is_installed_is_tested(tmp_path, monkeypatch, status, good):
    """In an environment that is this one; its pytest is a file that says something and ends."""
    here = Environment('.'.join(map(str, sys.version_info[:2])), 'newest', 'newest')
    python = tmp_path / 'python'
    python.write_text(f'#!/bin/sh\necho "$6 $7 $8"; echo "7 passed in 3.21s"; exit {status}\n')
    python.chmod(0o755)
    monkeypatch.setattr(matrix, 'install', lambda *_, **__: python)
    monkeypatch.setattr(matrix, 'versions', lambda *_, **__: dict(torch='2.6.0'))
    folder = tmp_path / here.name
    row = examine(here, folder, uv=matrix.find_uv(), wheel=tmp_path, tests=['a.py', 'b.py'])
    assert row['torch'] == '2.6.0' and row['good'] is good
    assert row['result'] == ('7 passed of a.py, b.py' if good else '**failed**: 7 passed')
    assert 'no:cacheprovider a.py b.py' in (tmp_path / f'{here.name}.log').read_text()


def test_a_step_says_its_last_words(tmp_path):
    log = tmp_path / 'log'
    assert step([sys.executable, '-c', 'print(3)'], log) == '3\n'
    with pytest.raises(Failure, match='^boom$'):
        step([sys.executable, '-c', 'import sys; print("boom"); sys.exit(2)'], log)
    assert log.read_text().count('$ ') == 2


@pytest.mark.parametrize(
    ('output', 'said'),
    [
        ('....\n214 passed, 2 skipped, 3 warnings in 65.21s (0:01:05)\n', '214 passed, 2 skipped'),
        (
            'FAILED tests/a.py::b - no\nERROR tests/c.py\n1 failed, 1 error in 0.3s\n',
            '1 failed, 1 error; tests/a.py::b; tests/c.py',
        ),
        ('3 passed in 0.3s\nnanobind: leaked 4 instances!\n', '3 passed'),
        ('', 'no output'),
    ],
)
def test_last_words(output, said):
    assert last_words(output) == said


def test_the_table(tmp_path):
    document = tmp_path / 'doc.md'
    document.write_text(f'Before.\n\n{matrix.BEGIN}\nold\n{matrix.END}\n\nAfter.\n')
    row = dict(python='3.12', torch='2.6.0', mmcv='mmcv-lite 2.1.0', result='a|b', date='today')
    for _ in range(2):
        matrix.write_document([row], document)
    text = document.read_text()
    assert text.startswith('Before.\n\n<!--') and text.endswith('-->\n\nAfter.\n')
    assert '| 3.12 | 2.6.0 |  | mmcv-lite 2.1.0 |  |  |  |  | a\\|b | today |' in text
    assert 'old' not in text and text.count('| python |') == 1


def test_unknown_names():
    assert {one.hosts for one in matrix.chosen(['onedl'])} == {'onedl'}
    assert matrix.chosen([]) == list(ENVIRONMENTS)
    with pytest.raises(SystemExit, match='found 2.7'):
        matrix.chosen(['2.7'])

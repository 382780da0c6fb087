"""Which Python the two commands take."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

FAKE = """#!/bin/sh
case "$*" in *version_info*) exit {status};; *) echo "$0 $*"; exit 3;; esac
"""


@pytest.fixture
def make(repository, tmp_path):
    """`make demo` of a fresh clone with none but the given programs; what it says."""
    shutil.copy(repository / 'Makefile', tmp_path)
    for name in ('requirements', 'setup.cfg', 'setup.py', 'pyproject.toml'):
        (tmp_path / name).touch()
    programs = tmp_path / 'bin'
    programs.mkdir()
    for name in ('sh', 'make', 'nproc'):
        (programs / name).symlink_to(Path(shutil.which(name)).resolve())

    def run(*arguments: str, **pythons: int) -> tuple[int, str]:
        for name, status in pythons.items():
            path = programs / name.replace('_', '.')
            path.write_text(FAKE.format(status=status))
            path.chmod(0o755)
        done = subprocess.run(
            [programs / 'make', 'demo', 'SHELL=/bin/sh', *arguments],
            cwd=tmp_path,
            env=dict(PATH=str(programs)),
            capture_output=True,
            text=True,
        )
        return done.returncode, done.stdout + done.stderr

    return run


@pytest.mark.parametrize(
    ('pythons', 'taken'),
    [
        (dict(python3_11=0, python3_12=0, python3=0), 'python3.11'),
        (dict(python3_11=1, python3_12=0, python3=0), 'python3.12'),
        (dict(python3_13=0), 'python3.13'),
        (dict(python3_13=1, python3=0), 'python3'),
    ],
)
def test_the_first_that_fits(make, pythons, taken):
    status, said = make(**pythons)
    assert status == 2
    assert f'/{taken} -m venv .venv\n' in said


def test_one_that_is_named(make):
    assert '/python3.9 -m venv .venv\n' in make('PYTHON=python3.9', python3_9=1)[1]


def test_none(make):
    status, said = make(python3=1)
    assert status == 2
    assert 'found none as python3.11 python3.12 python3.13 python3; name one by make PYTHON' in said
    assert '-m venv' not in said

"""What Tab gives in a real bash."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

from mmseg_siglip.cli.completion import SHELLS
from mmseg_siglip.cli.main import COMMANDS, main

COMPLETE = """
source "$1"; shift
[[ $(complete -p mmseg-siglip) =~ -F\\ ([^ ]+) ]]
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMPREPLY=()
${BASH_REMATCH[1]} "$1" "${@: -1}" "${@: -2:1}"
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture(scope='module')
def script(tmp_path_factory):
    path = tmp_path_factory.mktemp('completion') / 'mmseg-siglip'
    with pytest.MonkeyPatch.context() as patch, path.open('w') as file:
        patch.setattr('sys.stdout', file)
        assert main(['completion']) == 0
    return path


@pytest.fixture
def tab(script, tmp_path):
    """What comes after words and a Tab, in a folder that holds ``photo.jpg`` alone."""
    (tmp_path / 'photo.jpg').touch()

    def press(*words: str) -> set[str]:
        command = [shutil.which('bash'), '-c', COMPLETE, 'bash', script, 'mmseg-siglip', *words]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
        assert not done.stderr
        return set(done.stdout.split())

    return press


def test_commands(tab):
    assert tab('seg') == {'segment'}
    assert set(COMMANDS) <= tab('')


def test_options(tab):
    assert tab('segment', '--thr') == {'--threshold'}
    assert tab('label', 'photos', '--words', 'cat', '--form') == {'--format'}
    assert not tab('segment', '--nothing')


def test_kinds_and_choices(tab):
    assert tab('convert', 'sys') == {'system'}
    assert tab('convert', 'system', '--dtype', 'b') == {'bfloat16'}


def test_files(tab):
    assert tab('segment', 'ph') == {'photo.jpg'}
    assert tab('depth', 'a.jpg', '--checkpoint', 'ph') == {'photo.jpg'}


@pytest.mark.parametrize('shell', SHELLS)
def test_every_shell(capsys, shell):
    assert main(['completion', shell]) == 0
    assert 'rank-templates' in capsys.readouterr().out


def test_without_shtab(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, 'shtab', None)
    assert main(['completion']) == 1
    assert "pip install 'mmseg_siglip[completion]'" in capsys.readouterr().err

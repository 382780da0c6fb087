from __future__ import annotations

import os
import subprocess
import sys

import pytest

from mmseg_siglip.cli.common import config_folder, one_line, run


def kept(argument):
    return 'all is kept'


def fail(error):
    def command(argv):
        raise error

    return command


@pytest.mark.parametrize(
    ('error', 'line'),
    [
        (ValueError('bad\n  thing'), 'error: bad thing\n'),
        (FileNotFoundError('no file x'), 'error: no file x\n'),
        (KeyError('X is not in the registry'), 'error: X is not in the registry\n'),
        (TypeError('A.__init__() got an unexpected keyword argument'), None),
        (ValueError(), 'error: ValueError\n'),
    ],
)
def test_the_users_mistakes_are_one_line(capsys, monkeypatch, error, line):
    monkeypatch.delenv('RANK', raising=False)
    assert run(fail(error), None, kept) == 1
    found = capsys.readouterr().err
    assert found == (line or f'error: {error}\n')


def test_bugs_keep_their_traceback(monkeypatch):
    with pytest.raises(AssertionError):
        run(fail(AssertionError('bug')), None, kept)
    with pytest.raises(TypeError):
        run(fail(TypeError('bug')), None, kept)
    monkeypatch.setenv('MMSEG_SIGLIP_TRACEBACK', '1')
    with pytest.raises(ValueError, match='bad'):
        run(fail(ValueError('bad')), None, kept)


def test_success_is_zero():
    assert run(lambda argv: None, None, kept) == 0


def test_the_message_of_a_worker_process_is_found():
    text = (
        'Caught ValueError in DataLoader worker process 0.\nOriginal Traceback (most recent call '
        'last):\n  File "x.py", line 1\nValueError: a.png is empty.\n'
    )
    assert one_line(ValueError(text)) == 'a.png is empty.'


@pytest.mark.parametrize('rank', [None, '1'])
def test_the_status_and_what_was_printed_survive_the_end(monkeypatch, rank):
    environment = {name: value for name, value in os.environ.items() if name != 'RANK'}
    code = "from mmseg_siglip.cli.common import leave; print('done', end=''); leave(3)"
    result = subprocess.run(
        [sys.executable, '-c', code],
        env=dict(environment, **({'RANK': rank} if rank else {})),
        capture_output=True,
        text=True,
    )
    assert (result.returncode, result.stdout) == (3, 'done')


def test_configs_are_found():
    assert (config_folder() / 'sclip/shapes.py').is_file()


@pytest.mark.parametrize('end', ['is killed by signal: Killed.', 'exited unexpectedly'])
def test_a_process_that_reads_data_and_dies_is_one_line(capsys, monkeypatch, end):
    monkeypatch.delenv('RANK', raising=False)
    assert run(fail(RuntimeError(f'DataLoader worker (pid(s) 7) {end} ')), None, kept) == 1
    line = f'error: a process that reads data has ended: DataLoader worker (pid(s) 7) {end} If '
    assert capsys.readouterr().err.startswith(line)


def test_ctrl_c_is_one_line(capsys, monkeypatch):
    monkeypatch.delenv('RANK', raising=False)
    assert run(fail(KeyboardInterrupt()), None, kept) == 130
    assert capsys.readouterr().err == 'interrupted: all is kept\n'

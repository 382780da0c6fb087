import os
import subprocess
import sys
import threading
import time

import pytest

from mmseg_siglip.io.writers import Writers


def test_calls_go_on_in_threads_and_finish_waits():
    done, gate = [], threading.Event()

    def write(number, *, twice):
        gate.wait(10)
        done.append(number * twice)

    writers = Writers(threads=2, ahead=8)
    for number in range(4):
        writers(write, number, twice=2)
    assert done == [] and len(writers.waiting) == 4
    gate.set()
    writers.finish()
    assert sorted(done) == [0, 2, 4, 6] and writers.waiting == ()
    writers.finish()


def test_no_more_than_some_wait():
    begun, gate, first = [], threading.Event(), threading.Event()

    def write(number):
        begun.append(number)
        first.set()
        gate.wait(10)

    writers = Writers(threads=1, ahead=2)

    def ask():
        for number in range(4):
            writers(write, number)

    asking = threading.Thread(target=ask)
    asking.start()
    assert first.wait(10)
    time.sleep(0.2)
    assert asking.is_alive() and begun == [0] and len(writers.waiting) <= 2
    gate.set()
    asking.join(10)
    writers.finish()
    assert begun == [0, 1, 2, 3]


def fail(text):
    raise OSError(text)


def test_an_error_is_raised_by_the_next_call_or_in_the_end():
    writers, done, gate = Writers(threads=1), [], threading.Event()
    writers(gate.wait, 10)
    writers(fail, 'disk full')
    writers(done.append, 1)
    gate.set()
    with pytest.raises(OSError, match='disk full'):
        writers.finish()
    assert done == [1]
    gate.clear()
    writers(gate.wait, 10)
    writers(fail, 'first')
    writers(fail, 'second')
    gate.set()
    while not writers.waiting[-1].done():
        time.sleep(0.01)
    with pytest.raises(OSError, match='first'):
        writers(done.append, 2)
    with pytest.raises(OSError, match='second'):
        writers.finish()
    assert done == [1]


def test_what_was_asked_for_is_written_where_the_program_fails(tmp_path):
    code = (
        'import sys, time, pathlib\n'
        'from mmseg_siglip.io.writers import Writers\n'
        'def write(n):\n'
        '    time.sleep(0.05)\n'
        '    pathlib.Path(sys.argv[1], str(n)).touch()\n'
        'writers = Writers(threads=1)\n'
        'for n in range(5): writers(write, n)\n'
        'raise SystemExit(3)'
    )
    done = subprocess.run([sys.executable, '-c', code, str(tmp_path)])
    assert done.returncode == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == list('01234')


STOPPED = """
import os, signal, sys, time
from pathlib import Path
from mmseg_siglip.cli.common import leave, run
from mmseg_siglip.io.files import whole_file
from mmseg_siglip.io.writers import Writers

def write(path):
    with whole_file(path) as draft:
        time.sleep(0.1)
        draft.write_text('whole')

def command(folder):
    writers = Writers(threads=2)
    for number in range(8):
        writers(write, Path(folder, str(number)))
    if sys.argv[2] == 'error':
        raise ValueError('of another image')
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(10)

leave(run(command, sys.argv[1], lambda folder: 'go on'))
"""


@pytest.mark.parametrize(('how', 'status'), [('error', 1), ('signal', 143)])
def test_a_command_that_is_stopped_leaves_whole_files(tmp_path, how, status):
    variables = dict(os.environ, RANK='0')  # of several processes none takes its last steps
    done = subprocess.run([sys.executable, '-c', STOPPED, str(tmp_path), how], env=variables)
    assert done.returncode == status
    assert sorted(path.name for path in tmp_path.iterdir()) == list('01234567')

"""Threads that allocate share the pools of glibc."""

import ctypes
import os
import subprocess
import sys

import pytest

from mmseg_siglip.web.arenas import limit_arenas

CODE = """
import ctypes, sys, threading
from mmseg_siglip.web.arenas import limit_arenas
if sys.argv[1] == 'limited':
    assert limit_arenas()
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.fopen.restype = ctypes.c_void_p
gate = threading.Barrier(9)
def allocate():
    gate.wait()
    libc.malloc(5000)
    gate.wait()
threads = [threading.Thread(target=allocate) for _ in range(8)]
for thread in threads:
    thread.start()
gate.wait()
gate.wait()
file = ctypes.c_void_p(libc.fopen(sys.argv[2].encode(), b'w'))
libc.malloc_info(0, file)
libc.fclose(file)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), 'mallopt'), reason='not glibc')
@pytest.mark.parametrize(('how', 'few'), [('limited', True), ('as it is', False)])
def test_eight_threads(tmp_path, how, few):
    report = tmp_path / 'report.xml'
    others = ('MALLOC_ARENA_MAX', 'GLIBC_TUNABLES')
    variables = {name: value for name, value in os.environ.items() if name not in others}
    subprocess.run([sys.executable, '-c', CODE, how, str(report)], env=variables, check=True)
    arenas = report.read_text().count('<heap nr=')
    assert (arenas <= 2) == few, arenas


def test_what_the_user_has_set_stays(monkeypatch):
    monkeypatch.setenv('MALLOC_ARENA_MAX', '1')
    assert not limit_arenas()

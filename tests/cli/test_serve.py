import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request

import pytest

from mmseg_siglip.cli.main import main
from mmseg_siglip.io.cache import VARIABLE
from mmseg_siglip.web.temporary import GRADIO


@pytest.fixture(autouse=True)
def own_folders(monkeypatch):
    """What `temporary_files` sets is as before after each test."""
    for name in (VARIABLE, GRADIO):
        monkeypatch.setenv(name, os.environ.get(name, ''))


def test_without_gradio_a_sentence_names_the_extra(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, 'gradio', None)
    monkeypatch.delitem(sys.modules, 'mmseg_siglip.web.server', raising=False)
    assert main(['serve']) == 1
    assert capsys.readouterr().err == (
        "error: serve needs gradio: pip install 'mmseg_siglip[demo]' brings it along\n"
    )


@pytest.fixture
def served(monkeypatch):
    """What a command would serve."""
    server = pytest.importorskip('mmseg_siglip.web.server')
    found = {}

    def serve(menu, limits, **options):
        found.update(menu=menu, limits=limits, **options)

    monkeypatch.setattr(server, 'serve', serve)
    return found


def test_by_default_what_ships_along_for_this_machine_alone(served, capsys):
    assert main(['serve', '--device', 'cpu']) == 0
    assert {task: [*named] for task, named in served['menu'].offers.items()} == {
        'segment': ['SigLIP', 'CAT-Seg'],
        'refer': ['RSRefSeg'],
        'depth': ['DPT'],
        'ask': ['LLaVA'],
    }
    assert (served['host'], served['port'], served['folder']) == ('127.0.0.1', 7860, None)
    assert served['limits'].pixels == 2048 * 2048
    assert 'http://127.0.0.1:7860' in capsys.readouterr().out


def test_models_of_several_systems(served, depth_files, tmp_path):
    depth = ','.join(map(str, depth_files))
    words = ['serve', '--device', 'cpu', '--depth', f'rooms={depth}', '--method', 'naclip']
    words += ['--segment', 'one=tiny_siglip_shapes', '--segment', 'tiny_siglip_shapes']
    assert main([*words, '--port', '8000', '--label-studio-images', str(tmp_path)]) == 0
    offers = served['menu'].offers
    assert {task: [*named] for task, named in offers.items()} == {
        'segment': ['one', 'tiny_siglip_shapes'],
        'depth': ['rooms'],
    }
    assert offers['segment']['one'].controls['method'].default == 'naclip'
    assert (served['port'], served['folder']) == (8000, tmp_path)


def test_no_model_is_one_sentence(served, capsys):
    assert main(['serve', '--device', 'cpu', '--depth', 'rooms=/nowhere/at/all']) == 1
    assert '/nowhere/at/all' in capsys.readouterr().err and not served


@pytest.mark.slow
def test_a_server_ends_by_ctrl_c(tmp_path):
    pytest.importorskip('gradio')
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    command = [sys.executable, '-m', 'mmseg_siglip', 'serve', '--port', str(port)]
    folder = tmp_path / 'temporary'
    folder.mkdir()
    environment = dict(os.environ, TMPDIR=str(folder))
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    try:
        for _ in range(600):
            try:
                page = urllib.request.urlopen(f'http://127.0.0.1:{port}/', timeout=60).read()
                break
            except OSError:
                assert process.poll() is None
                time.sleep(0.2)
        assert b'gradio' in page and [*folder.iterdir()]
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert 'uploads and results are gone' in errors and 'Traceback' not in errors
    assert not [*folder.iterdir()]

from __future__ import annotations

import http.server
import threading
from pathlib import Path

import pytest

from mmseg_siglip.io.cache import cache_folder
from mmseg_siglip.weights.fetch import fetch


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A server whose pages hold their own path, and the list of what was asked of it."""
    monkeypatch.setenv('MMSEG_SIGLIP_CACHE', str(tmp_path / 'cache'))
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            missing = 'missing' in self.path
            self.send_response(404 if missing else 200)
            self.send_header('Content-Length', str(len(self.path)))
            self.end_headers()
            self.wfile.write(self.path.encode())

    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f'http://127.0.0.1:{server.server_port}', asked
    server.shutdown()
    server.server_close()


def test_a_local_path_is_returned_as_it_is(monkeypatch):
    monkeypatch.setenv('HOME', '/home/someone')
    assert fetch('a/b.pth') == Path('a/b.pth')
    assert fetch('~/b.pth') == Path('/home/someone/b.pth')


def test_equal_file_names_do_not_collide_and_nothing_is_fetched_twice(server):
    address, asked = server
    for _ in range(2):
        assert fetch(f'{address}/one/w.pth').read_text() == '/one/w.pth'
        assert fetch(f'{address}/two/w.pth').read_text() == '/two/w.pth'
    assert asked == ['/one/w.pth', '/two/w.pth']
    assert fetch(f'{address}/one/w.pth').is_relative_to(cache_folder('downloads'))


def test_a_failed_download_is_one_sentence_and_leaves_nothing(server):
    address, _ = server
    with pytest.raises(ValueError, match=r'missing\.pth cannot be downloaded: .*404'):
        fetch(f'{address}/missing.pth')
    assert not list(cache_folder('downloads').glob('*.pth'))


def test_torchvision_names_lead_to_addresses(monkeypatch, server):
    address, _ = server
    names = {'resnet18': f'{address}/resnet18.pth', 'bare': None}
    monkeypatch.setattr('mmseg_siglip.weights.fetch.get_torchvision_models', lambda: names)
    assert fetch('torchvision://resnet18').read_text() == '/resnet18.pth'
    for name in ('none', 'bare'):
        with pytest.raises(ValueError, match=f"has no model named '{name}'"):
            fetch(f'torchvision://{name}')


def test_deprecated_zoo_names_are_followed(monkeypatch, server):
    address, _ = server
    monkeypatch.setattr(
        'mmseg_siglip.weights.fetch.get_deprecated_model_names', lambda: dict(old='new')
    )
    monkeypatch.setattr(
        'mmseg_siglip.weights.fetch.get_external_models', lambda: {'new': f'{address}/new.pth'}
    )
    assert fetch('open-mmlab://old').read_text() == '/new.pth'


def test_hub_addresses_are_taken_apart(monkeypatch):
    asked = []

    def download(repository, file, revision):
        asked.append((repository, file, revision))
        return '/somewhere/file'

    monkeypatch.setattr('huggingface_hub.hf_hub_download', download)
    assert fetch('hf://owner/name/folder/w.safetensors') == Path('/somewhere/file')
    fetch('hf://owner/name@v1/w.pth')
    assert asked == [
        ('owner/name', 'folder/w.safetensors', None),
        ('owner/name', 'w.pth', 'v1'),
    ]


def test_the_hub_cannot_be_reached():
    with pytest.raises(ValueError, match='cannot be fetched from the Hub') as caught:
        fetch('hf://owner/name/w.pth')
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize('address', ['hf://owner', 'hf://owner/name', 'hf://owner/name/'])
def test_a_hub_address_without_a_file(address):
    with pytest.raises(ValueError, match='names no file, expected hf://'):
        fetch(address)


def test_an_unknown_scheme_lists_the_known_ones():
    with pytest.raises(ValueError, match=r's3:// is none of hf, http, https.*give its path'):
        fetch('s3://bucket/w.pth')

from __future__ import annotations

import http.server
import io
import threading
from argparse import Namespace

import numpy as np
import pytest
from PIL import Image

from mmseg_siglip.api.images import read_images
from mmseg_siglip.cli.photographs import answer
from mmseg_siglip.io import download, web_image
from mmseg_siglip.io.image import read_image
from mmseg_siglip.io.web_image import fetch_image, is_address, name_at
from mmseg_siglip.labelling.listing import Listing


@pytest.fixture
def site(monkeypatch):
    """A site of one photograph, and what was asked of it."""
    monkeypatch.setattr(download, 'PATIENCE', 0.5)
    monkeypatch.setattr(download, 'PAUSES', (0.01,))
    file = io.BytesIO()
    Image.new('RGB', (6, 4), 'red').save(file, 'PNG')
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            body = dict(photo=file.getvalue(), page=b'<html>', vast=bytes(5000), long=bytes(5000))
            kind = self.path.rpartition('/')[2].partition('.')[0]
            if kind not in body:
                return self.send_error(404)
            self.send_response(200)
            if kind != 'vast':
                self.send_header('Content-Length', str(len(body[kind])))
            self.end_headers()
            self.wfile.write(body[kind])

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f'http://127.0.0.1:{server.server_port}', asked
    server.shutdown()
    server.server_close()


def test_the_api_takes_an_address(site):
    address, asked = site
    found = read_image(f'{address}/photo.png')
    assert found.shape == (4, 6, 3) and (found == (255, 0, 0)).all()
    (again,) = read_images(f'{address}/photo.png')
    assert np.array_equal(again, found) and asked == ['/photo.png'] * 2


@pytest.mark.parametrize(
    ('name', 'reason'),
    [
        ('gone.png', 'cannot be downloaded: HTTP Error 404'),
        ('page.png', 'is not an image of a known kind'),
        ('vast.png', 'cannot be downloaded: has more than 1000 bytes'),
        ('long.png', 'cannot be downloaded: has 5000 bytes, expected at most 1000'),
    ],
)
def test_what_is_no_image_or_too_large_is_one_sentence(site, monkeypatch, name, reason):
    address, asked = site
    monkeypatch.setattr(web_image, 'MOST_BYTES', 1000)
    with pytest.raises(ValueError, match=f'^{address}/{name} {reason}'):
        read_image(f'{address}/{name}')
    assert len(asked) == 1


class Echo:
    """A system that keeps what it was given."""

    def check_prompt(self, prompt):
        return prompt

    def __call__(self, paths, prompt):
        read_images(paths)
        return list(paths)


def test_one_bad_address_does_not_stop_the_others(site):
    address, _ = site
    told = []
    args = Namespace(images=[f'{address}/{n}.png' for n in ('gone', 'photo')], out=None, frame=None)
    with pytest.raises(
        ValueError, match=f'^1 images could not be read: {address}/gone.png: cannot'
    ):
        answer(args, Echo, done='read', batch_size=2, tell=lambda path, found: told.append(path))
    assert told == [f'{address}/photo.png']


def test_nothing_is_fetched_that_a_file_or_a_visitor_names(site, tmp_path):
    address, asked = site
    photo = f'{address}/photo.png'
    with pytest.raises(ValueError, match='expected a tar or Parquet file at an address'):
        Listing([photo])
    (tmp_path / 'list.txt').write_text(f'{photo}\n')
    (shard,) = Listing([str(tmp_path / 'list.txt')]).shards()
    (entry,) = shard.members()
    with pytest.raises(ValueError, match='No such file'):
        entry.read()
    assert not asked


def test_what_an_address_is():
    assert is_address('https://x/a.png') and is_address('HTTP://x')
    for other in ('ftp://x/a.png', 'file:///etc/passwd', 'a.png', b'http://x', None):
        assert not is_address(other)


@pytest.mark.parametrize(
    ('address', 'name'),
    [
        ('https://x/a/b.jpg', 'b.jpg'),
        ('https://x', 'image'),
        ('https://x/..%2f..%2fetc', 'etc'),
        ('https://x/%2e%2e', 'image'),
        ('https://x/' + 'a' * 300, 'a' * 100),
        ('https://x/' + 'a' * 300 + '.jpg', 'a' * 96 + '.jpg'),
        ('https://x/' + '\u6f22' * 99 + '.jpg', '\u6f22' * 32 + '.jpg'),
    ],
)
def test_names_stay_in_their_folder(address, name):
    assert name_at(address) == name


def test_an_address_that_is_none(site):
    with pytest.raises(ValueError, match='^http://127.0.0.1:99999/a.png cannot be downloaded: '):
        fetch_image('http://127.0.0.1:99999/a.png')


@pytest.mark.parametrize(
    ('path', 'sent'),
    [
        ('gr\u00fcn/photo.png', 'gr%C3%BCn/photo.png'),
        ('a b/photo.png?q=a b', 'a%20b/photo.png?q=a%20b'),
        ('a%20b/photo.png', 'a%20b/photo.png'),
    ],
)
def test_addresses_are_quoted_once(site, path, sent):
    address, asked = site
    assert read_image(f'{address}/{path}').shape == (4, 6, 3)
    assert asked == [f'/{sent}']


def test_hexadecimal_names_of_images_are_no_digests(site):
    address, _ = site
    assert read_image(f'{address}/{"0f" * 32}/photo.png').shape == (4, 6, 3)
    with pytest.raises(ValueError, match='expected a file of the digest 0f0f0f0f, found'):
        read_image(f'{address}/photo.png#sha256=0f0f0f0f')


def test_an_address_that_cannot_be_asked_for_is_not_tried_again(monkeypatch):
    monkeypatch.setattr(download.time, 'sleep', lambda pause: pytest.fail('tried again'))
    with pytest.raises(ValueError, match='^http://127.0.0.1:port/a.png cannot be downloaded: '):
        fetch_image('http://127.0.0.1:port/a.png')

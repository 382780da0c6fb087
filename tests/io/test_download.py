from __future__ import annotations

import hashlib
import http.server
import threading
import time

import pytest

from mmseg_siglip.io import download as module
from mmseg_siglip.io.cache import cache_folder
from mmseg_siglip.io.download import digest_in
from mmseg_siglip.weights.fetch import fetch

BODY = bytes(range(256)) * 8000
DIGEST = hashlib.sha256(BODY).hexdigest()


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A server that fails as the path says, the first times or always, and what was asked of it."""
    monkeypatch.setenv('MMSEG_SIGLIP_CACHE', str(tmp_path / 'cache'))
    monkeypatch.setattr(module, 'PATIENCE', 0.3)
    monkeypatch.setattr(module, 'PAUSES', (0.01, 0.01, 0.01))
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            how, _, times = self.path.split('/')[1].partition('-')
            well = times and len(asked) > int(times)
            if how.isdigit() and not well:
                self.send_error(int(how))
                return
            self.send_response(200)
            if how != 'unsaid':
                length = len(BODY) // 2 if how == 'lying' else len(BODY)
                self.send_header('Content-Length', str(length))
            self.end_headers()
            if how in ('cut', 'stalled') and not well:
                self.wfile.write(BODY[:-1000])
                self.wfile.flush()
                if how == 'stalled':
                    time.sleep(2)
                return
            if not (how == 'silent' and not well):
                self.wfile.write(BODY)
            else:
                time.sleep(2)

        def log_message(self, *args):
            pass

    class Quiet(http.server.ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *args):
            """Whoever was left waiting finds nobody there."""

    server = Quiet(('127.0.0.1', 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f'http://127.0.0.1:{server.server_port}', asked
    server.shutdown()
    server.server_close()


def files():
    return [path for path in cache_folder('downloads').iterdir() if not path.name.endswith('.lock')]


@pytest.mark.parametrize('how', ['cut', 'stalled', 'silent', '503', '429'])
def test_what_fails_on_the_way_is_tried_again(server, how):
    address, asked = server
    path = fetch(f'{address}/{how}-2/w.pth')
    assert path.read_bytes() == BODY and len(asked) == 3
    assert files() == [path]


@pytest.mark.parametrize(
    ('how', 'message'),
    [
        ('cut', f'only {len(BODY) - 1000} of {len(BODY)} bytes came'),
        ('stalled', 'timed out'),
        ('silent', 'timed out'),
        ('503', 'HTTP Error 503'),
    ],
)
def test_nothing_is_kept_of_what_never_comes(server, how, message):
    address, asked = server
    with pytest.raises(ValueError, match=rf'w\.pth cannot be downloaded: {message}') as caught:
        fetch(f'{address}/{how}/w.pth')
    assert '\n' not in str(caught.value)
    assert len(asked) == 4 and not files()


def test_what_is_refused_is_not_asked_again(server):
    address, asked = server
    with pytest.raises(ValueError, match='HTTP Error 404'):
        fetch(f'{address}/404/w.pth')
    assert len(asked) == 1 and not files()


def test_the_digest_finds_what_the_length_does_not(server):
    address, asked = server
    for how in ('lying', 'unsaid'):
        path = fetch(f'{address}/{how}/w.pth')
        assert path.stat().st_size == len(BODY) // (2 if how == 'lying' else 1)
    for name in (f'w-{DIGEST[:8]}.pth', f'{DIGEST}/w.pt', f'w.pth#sha256={DIGEST}'):
        assert fetch(f'{address}/good/{name}').read_bytes() == BODY
        del asked[:]
        with pytest.raises(ValueError, match=f'a file of the digest {DIGEST[:8]}.*, found'):
            fetch(f'{address}/lying/{name}')
        assert len(asked) == 1
    assert len(files()) == 5


@pytest.mark.parametrize(
    ('address', 'digest'),
    [
        (f'https://x/clip/models/{DIGEST}/ViT-B-32.pt', DIGEST),
        ('https://x/resnet18-f37072fd.pth', 'f37072fd'),
        ('https://x/a/dinotxt_vision_head_and_text_encoder-a442d8f5.pth', 'a442d8f5'),
        ('https://x/releases/download/v0.2/vit_b_32-laion400m_e31-d867053b.pt', 'd867053b'),
        ('https://x/fcn_r50_20200604_192608-efe53f0d.pth?download=1', 'efe53f0d'),
        ('https://x/swin-20200514.pth', None),
        ('https://x/dino_deitsmall16_pretrain.pth', None),
        ('https://x/w-cafe.pth', None),
        ('https://x/w.bin#sha256=00ff00ff00', '00ff00ff00'),
        ('https://x', None),
    ],
)
def test_digests_of_published_names(address, digest):
    assert digest_in(address) == digest

"""The page in a real Chromium: what a visitor does, and what leaves the machine."""

from __future__ import annotations

import base64
import io
import json
import shutil
import threading
import time

import numpy as np
import pytest
from PIL import Image

pytestmark = pytest.mark.slow
pytest.importorskip('gradio')
sync_api = pytest.importorskip('playwright.sync_api')

ARGUMENTS = (
    '--headless --no-sandbox --disable-gpu --disable-quic --no-first-run '
    '--disable-background-networking --disable-component-update --disable-sync'
).split()
PATIENCE = 120_000  # milliseconds


@pytest.fixture(scope='module')
def address(shapes_offer):
    """Of a server on a port of its own."""
    import uvicorn

    from mmseg_siglip.web.limits import Limits
    from mmseg_siglip.web.menu import Menu, Offer
    from mmseg_siglip.web.server import create_app

    menu = Menu([shapes_offer, Offer('again', shapes_offer.system)])
    app = create_app(menu, Limits(file_bytes=2_000_000, pixels=500 * 500))
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level='warning'))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.1)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield f'http://127.0.0.1:{port}/'
    server.should_exit = True
    thread.join(30)


@pytest.fixture(scope='module')
def browser():
    chromium = shutil.which('chromium') or shutil.which('google-chrome')
    if chromium is None:
        pytest.skip('there is no chromium on this machine')
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser, address):
    page = browser.new_page(viewport=dict(width=1200, height=900))
    page.set_default_timeout(PATIENCE)
    page.asked, page.errors = [], []
    page.on('request', lambda request: page.asked.append(request.url))
    page.on('pageerror', lambda error: page.errors.append(str(error)))
    page.goto(address)
    page.wait_for_selector('.picker')
    yield page
    page.close()


def choose(page, data: bytes, name: str) -> None:
    page.set_input_files('.picker input', dict(name=name, mimeType='image/png', buffer=data))


def segment(page, words: str) -> list[str]:
    """The names in the legend."""
    page.fill('.prompt textarea', words)
    page.evaluate("document.querySelectorAll('.overlay').forEach((old) => old.remove())")
    page.click('button.go')
    page.wait_for_selector('.overlay[data-drawn]')
    return page.locator('.legend b').all_inner_texts()


def pixels_of(page) -> np.ndarray:
    """(H, W, 4), what the canvas shows."""
    address = page.evaluate("document.querySelector('.overlay canvas').toDataURL()")
    with Image.open(io.BytesIO(base64.b64decode(address.partition(',')[2]))) as image:
        return np.array(image.convert('RGBA')).astype(int)


def toast(page) -> str:
    shown = page.wait_for_selector('[role=alert], .toast-body')
    return shown.inner_text()


def test_a_visit(page, scene, address, tmp_path):
    choose(page, scene, 'scene.png')
    page.wait_for_selector('.chosen:not([hidden])')
    names = segment(page, 'ring, grass, brick')
    assert {'grass', 'brick'} <= set(names) <= {'ring', 'grass', 'brick'}
    everything = pixels_of(page)
    assert everything.shape == (256, 384, 4)

    page.click('.legend button >> nth=1')
    page.wait_for_selector('.legend [aria-pressed="true"]')
    alone = pixels_of(page)
    assert 0.05 < (np.abs(alone - everything).max(-1) > 20).mean() < 0.95
    page.click('.legend button >> nth=1')
    np.testing.assert_array_equal(pixels_of(page), everything)

    page.fill('.opacity input', '0')
    with Image.open(io.BytesIO(scene)) as image:
        original = np.array(image.convert('RGB')).astype(int)
    assert np.abs(pixels_of(page)[..., :3] - original).mean() < 6  # a JPEG of it

    for name in ('picture.png', 'result.json', 'view.png'):
        with page.expect_download() as download:
            page.click(f'a[download="{name}"]')
        download.value.save_as(tmp_path / name)
    assert json.loads((tmp_path / 'result.json').read_text())['classes'] == [
        'ring',
        'grass',
        'brick',
    ]
    with Image.open(tmp_path / 'picture.png') as picture:
        assert picture.width == 384
    with Image.open(tmp_path / 'view.png') as view:
        assert view.size == (384, 256)

    assert set(segment(page, 'star, sky')) <= {'star', 'sky'}
    assert not page.errors
    assert {url.split('/')[2] for url in page.asked if not url.startswith(('data:', 'blob:'))} == {
        address.split('/')[2]
    }


def test_an_example_fills_in_its_words(page):
    page.click('.example >> nth=1')
    page.wait_for_function("document.querySelector('.prompt textarea').value.includes(',')")
    page.click('button.go')
    page.wait_for_selector('.overlay[data-drawn]')
    assert ' s, shapes' in page.inner_text('.seconds')


def test_another_model_can_be_chosen(page):
    page.click('.example >> nth=0')
    page.click('input[aria-label=Model]')
    page.click('[role=option]:has-text("again")')
    page.wait_for_timeout(1000)
    page.click('button.go')
    page.wait_for_selector('.seconds')
    assert ' s, again' in page.inner_text('.seconds')


def test_words_are_text(page, scene):
    choose(page, scene, 'scene.png')
    page.wait_for_selector('.chosen:not([hidden])')
    hostile = '<img src=x onerror="window.hurt=1">'
    names = segment(page, f'{hostile}, ${{window.hurt=1}}')
    assert set(names) <= {hostile, '${window.hurt=1}'}
    assert page.evaluate('window.hurt') is None and not page.errors


@pytest.mark.parametrize(
    ('name', 'data', 'reason'),
    [
        ('words.png', b'hello', 'words.png is not an image of a known kind'),
        ('large.png', bytes(2_000_001), 'large.png has 2.0 MB, expected at most 2'),
    ],
)
def test_a_bad_upload_is_told(page, name, data, reason):
    choose(page, data, name)
    assert reason in toast(page)
    assert page.locator('.chosen').is_hidden()


def test_many_pixels_are_told(page):
    buffer = io.BytesIO()
    Image.new('L', (501, 500)).save(buffer, 'PNG')
    choose(page, buffer.getvalue(), 'many.png')
    assert 'many.png has 501 x 500 pixels' in toast(page)


def test_a_refusal_is_one_sentence(page):
    page.click('button.go')
    assert 'expected an image, found none' in toast(page)
    page.click('.example >> nth=0')
    page.fill('.prompt textarea', "a;'<b>x</b>'")
    page.click('button.go')
    page.wait_for_function("document.body.innerText.includes('synonyms are separated by commas')")
    text = page.inner_text('body')
    assert "';' in 'a;'<b>x</b>''" in text and 'Traceback' not in text

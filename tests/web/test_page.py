import html
import json

import pytest
from toy_systems import Brightness, Echo

from mmseg_siglip.api import SYSTEMS

pytest.importorskip('gradio')

from fastapi.testclient import TestClient

from mmseg_siglip.web.limits import Limits
from mmseg_siglip.web.menu import Menu, Offer
from mmseg_siglip.web.server import create_app


@pytest.fixture
def new_systems(monkeypatch):
    added = {'brightness': 'toy_systems:Brightness', 'echo': 'toy_systems:Echo'}
    monkeypatch.setattr(SYSTEMS, '_places', SYSTEMS._places | added)
    return [Offer('new', Brightness()), Offer('first', Echo()), Offer('second', Echo())]


def components(client, kind: str) -> list[dict]:
    found = client.get('/config').json()['components']
    return [part['props'] for part in found if part['type'] == kind]


def test_a_new_system_has_a_tab(new_systems, shapes_offer):
    app = create_app(Menu([*new_systems, shapes_offer]), Limits())
    with TestClient(app, base_url='http://localhost') as client:
        tabs = [tab['label'] for tab in components(client, 'tabitem')]
        boxes = components(client, 'textbox')
        found = press(client, 'example-0', '', 'new', index=1)
    assert tabs == ['Segment', 'Brightness', 'Echo']
    prompts = [box for box in boxes if 'prompt' in box['elem_classes']]
    assert [(box['label'], box['visible']) for box in prompts] == [
        ('Words', True),
        ('None', False),
        ('Riddle', True),
    ]
    assert 'class="picture"' in found['output']['data'][0]


def test_no_component_takes_files(client):
    kinds = {part['type'] for part in client.get('/config').json()['components']}
    assert {'textbox', 'html', 'button'} < kinds
    assert not kinds & {'file', 'image', 'uploadbutton', 'imageeditor', 'gallery', 'audio', 'video'}


def press(client, *values, index=-1) -> dict:
    """What a tab's button answers, through Gradio's queue."""
    functions = [
        function['id']
        for function in client.get('/config').json()['dependencies']
        if function['targets'][0][1] == 'click'
    ]
    event = dict(data=[*values], fn_index=functions[index], session_hash='abc')
    assert client.post('/gradio_api/queue/join', json=event).status_code == 200
    with client.stream('GET', '/gradio_api/queue/data?session_hash=abc') as stream:
        for line in stream.iter_lines():
            if line.startswith('data:') and 'process_completed' in line:
                return json.loads(line[5:])
    raise AssertionError('no answer')


NONE = '', 0.0
"""No background, no threshold."""


def test_none_of_these(client):
    found = press(client, 'example-0', 'ring', 'shapes', 'csa', 'grass, ground', 0.2)
    folder = found['output']['data'][0].split('data-seen="')[1].split('image.jpg')[0]
    assert client.get(f'/{folder}result.json').json()['classes'] == ['background', 'ring']


def test_an_answer_and_its_files(client):
    found = press(client, 'example-0', 'ring, <b>grass</b>', 'shapes', 'naclip', *NONE)
    (text,) = found['output']['data']
    assert html.escape('<b>grass</b>') in text and '<b>grass' not in text and ' s, shapes' in text
    folder = text.split('data-seen="')[1].split('image.jpg')[0]
    assert client.get(f'/{folder}result.json').json()['classes'] == ['ring', '<b>grass</b>']
    for name in ('picture.png', 'labels.png', 'indices.png', 'image.jpg'):
        assert client.get(f'/{folder}{name}').headers['content-type'].startswith('image/')
    assert client.get(f'/{folder}other.png').status_code == 404


@pytest.mark.parametrize(
    ('values', 'reason'),
    [
        (('', 'ring', 'shapes', 'csa'), 'expected an image, found none'),
        (('nothing', 'ring', 'shapes', 'csa'), 'no longer kept here'),
        (('example-0', '', 'shapes', 'csa'), 'expected words beside the image'),
        (('example-0', 'a;<b>', 'shapes', 'csa'), "';' in 'a;<b>'"),
        (('example-0', 'a', 'other', 'csa'), 'not in the list of choices'),
    ],
)
def test_refusals_are_told(client, values, reason):
    found = press(client, *values, *NONE)
    assert found['success'] is False
    sentence = found['output']['error']
    assert reason in html.unescape(sentence) and '<' not in sentence
    assert 'Traceback' not in json.dumps(found)


def test_the_page_names_no_other_host(client):
    page = client.get('/').text
    links = [part.split('"')[0] for part in page.split('src="')[1:] + page.split('href="')[1:]]
    assert links and not [link for link in links if '//' in link]
    theme = client.get('/theme.css').text
    assert '@import' not in theme and 'fonts.g' not in theme

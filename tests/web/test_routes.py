import io
import json

import numpy as np
import pytest
from PIL import Image

from mmseg_siglip.web.limits import Limits


def ask(client, data, **fields):
    fields = dict(words='ring, grass, brick') | fields
    return client.post('/api/segment', files=dict(image=('a.png', data)), data=fields)


def test_the_answer_is_the_results_own_dict(client, scene, shapes_offer):
    answer = ask(client, scene)
    assert answer.status_code == 200 and float(answer.headers['x-seconds']) > 0
    with Image.open(io.BytesIO(scene)) as image:
        (result,) = shapes_offer(np.array(image), ['ring', 'grass', 'brick'], {})
    assert answer.json() == json.loads(json.dumps(result.to_dict()))
    other = ask(client, scene, method='naclip', model='shapes')
    assert other.status_code == 200 and other.json() != answer.json()


def test_a_picture_instead(client, scene):
    answer = ask(client, scene, format='png')
    assert answer.headers['content-type'] == 'image/png'
    with Image.open(io.BytesIO(answer.content)) as picture:
        assert picture.width == 384 and picture.height > 256


def test_what_there_is(client):
    (system,) = client.get('/api').json()['systems']
    assert (system['task'], system['asks'], list(system['models'])) == (
        'segment',
        'words',
        ['shapes'],
    )
    assert 'naclip' in system['models']['shapes']['method']


@pytest.mark.parametrize(
    ('fields', 'status', 'reason'),
    [
        (dict(words=''), 400, 'expected words beside the image, found nothing'),
        (dict(words='a, a'), 400, "class 1: 'a' is there already"),
        (dict(words=','.join(map(str, range(65)))), 413, 'at most 64, found 65'),
        (dict(method='proxyclip'), 400, "found 'proxyclip'"),
        (dict(model='/etc/passwd'), 400, "expected one of shapes, found '/etc/passwd'"),
        (dict(guide='http://example.com'), 400, 'guide: expected settings of this model'),
        (dict(format='exe'), 400, 'format: expected json or png'),
    ],
)
def test_refusals_are_one_sentence(client, scene, fields, status, reason):
    answer = ask(client, scene, **fields)
    assert answer.status_code == status and set(answer.json()) == {'error'}
    assert reason in answer.json()['error'] and '\n' not in answer.json()['error']


def test_bodies_that_are_no_form(client):
    head = 'multipart/form-data'
    for kind in (head, f'{head}; boundary=x', 'application/json', ''):
        answer = client.post('/api/segment', content=b'abc', headers={'content-type': kind})
        assert (
            answer.status_code in (400, 415)
            and 'expected' in answer.json()['error']
            or ('cannot be read' in answer.json()['error'])
        )
    answer = client.post('/api/segment', data=dict(words='a', image='no file'))
    assert answer.status_code in (400, 415)
    many = [('image', ('a.png', b'a')), ('image', ('b.png', b'b'))]
    assert client.post('/api/segment', files=many).status_code == 400
    fields = {str(number): 'x' for number in range(50)}
    assert ask(client, b'a', **fields).status_code == 400


def test_a_large_file_is_refused(client):
    most = Limits().file_bytes
    assert ask(client, bytes(most + 1)).status_code == 413
    answer = ask(client, bytes(2 * most))
    assert answer.status_code == 413 and answer.json()['error'].startswith('expected a request')


def test_an_upload_can_be_looked_at(client, scene):
    answer = client.post('/uploads', files=dict(image=('a.png', scene))).json()
    assert answer['size'] == [384, 256]
    preview = client.get(f'/{answer["preview"]}')
    with Image.open(io.BytesIO(preview.content)) as image:
        assert image.format == 'JPEG' and image.size == (384, 256)
    refused = client.post('/uploads', files=dict(image=('../b.png', b'hello')))
    assert refused.status_code == 400 and refused.json()['error'].startswith(
        'b.png is not an image'
    )
    assert client.get('/uploads/unknown.jpg').status_code == 404


def test_only_the_pages_own_files_are_served(client):
    assert client.get('/web/page.js').status_code == client.get('/web/page.css').status_code == 200
    for path in (
        '/web/server.py',
        '/web/..%2fserver.py',
        '/results/x/y.png',
        '/assets/..%2f..%2fx',
    ):
        assert client.get(path).status_code in (403, 404)


def test_a_full_queue_is_told(client, scene):
    turns = client.app.state.service.turns
    turns.inside += turns.waiting + 1
    try:
        answer = ask(client, scene)
    finally:
        turns.inside -= turns.waiting + 1
    assert answer.status_code == 503 and answer.headers['retry-after'] == '5'
    assert answer.json()['error'] == '8 requests are waiting already; try again soon'

from __future__ import annotations

import asyncio
import json

import pytest

pytest.importorskip('gradio')

from mmseg_siglip.web.guard import EVENT, Guard
from mmseg_siglip.web.limits import Limits

LIMITS = Limits(file_bytes=1000, body_seconds=0.2)


class Request:
    """One request through a guard to an app that reads its whole body."""

    def __init__(self, method: str, path: str, *parts: bytes, stalls: bool = False, **headers: str):
        headers = dict(host='localhost:7860') | headers
        encoded = [(k.replace('_', '-').encode(), v.encode()) for k, v in headers.items()]
        self.scope = dict(type='http', method=method, path=path, headers=encoded, query_string=b'')
        self.parts, self.stalls = [*parts], stalls
        self.body, self.sent, self.error = None, [], None

    async def receive(self) -> dict:
        if not self.parts and self.stalls:
            await asyncio.sleep(10)
        body = self.parts.pop(0) if self.parts else b''
        more = bool(self.parts) or self.stalls
        return dict(type='http.request', body=body, more_body=more)

    async def app(self, scope, receive, send) -> None:
        body, more = b'', True
        try:
            while more:
                message = await receive()
                body, more = body + message['body'], message['more_body']
        except Exception as error:
            self.error = error
        self.body = body
        await send(dict(type='http.response.start', status=200, headers=[]))
        await send(dict(type='http.response.body', body=b'in'))

    async def send(self, message: dict) -> None:
        self.sent.append(message)

    def run(self, **options) -> Request:
        guard = Guard(self.app, limits=LIMITS, **options)
        asyncio.run(guard(self.scope, self.receive, self.send))
        return self

    @property
    def status(self) -> int:
        return self.sent[0]['status']

    @property
    def headers(self) -> dict:
        return {key.decode(): value.decode() for key, value in self.sent[0]['headers']}

    @property
    def reason(self) -> str:
        return json.loads(self.sent[1]['body'])['error']


OPEN = [
    ('GET', '/'),
    ('HEAD', '/'),
    ('GET', '/assets/index.js'),
    ('GET', '/gradio_api/queue/data'),
    ('GET', '/results/a-_B/labels.png'),
    ('POST', '/api/segment'),
    ('POST', '/predict'),
]
CLOSED = [
    ('POST', '/'),
    ('GET', '/gradio_api/file=/etc/passwd'),
    ('GET', '/gradio_api/file=http://example.com'),
    ('GET', '/gradio_api/proxy=http://example.com'),
    ('POST', '/gradio_api/upload'),
    ('POST', '/gradio_api/run/predict'),
    ('POST', '/gradio_api/call/predict'),
    ('POST', '/gradio_api/component_server'),
    ('GET', '/gradio_api/deep_link'),
    ('GET', '/monitoring'),
    ('GET', '/docs'),
    ('DELETE', '/uploads/x.jpg'),
    ('OPTIONS', '/api/segment'),
]


@pytest.mark.parametrize(('method', 'path'), OPEN)
def test_what_the_page_needs_passes(method, path):
    request = Request(method, path, b'abc', b'def').run()
    assert request.status == 200 and request.body == b'abcdef'
    assert "default-src 'self'" in request.headers['content-security-policy']
    assert request.headers['x-content-type-options'] == 'nosniff'


@pytest.mark.parametrize(('method', 'path'), CLOSED)
def test_gradios_other_routes_are_closed(method, path):
    request = Request(method, path).run()
    assert request.status == 404 and request.body is None


@pytest.mark.parametrize('host', ['example.com', 'localhost.example.com', '', '[', '127.0.0.2'])
def test_a_name_of_somebody_else_is_refused(host):
    assert Request('GET', '/', host=host).run().status == 403
    assert Request('GET', '/', host=host).run(hosts=()).status == 200


@pytest.mark.parametrize('host', ['localhost', '127.0.0.1:7860', '[::1]:7860'])
def test_names_of_this_machine(host):
    assert Request('GET', '/', host=host).run().status == 200


def test_another_page_cannot_post():
    assert Request('POST', '/uploads', origin='http://example.com').run().status == 403
    assert Request('POST', '/uploads', origin='null').run().status == 403
    assert Request('POST', '/uploads', origin='http://localhost:7860').run().status == 200


def test_a_request_has_a_size():
    large = Request('POST', '/uploads', content_length='1501').run()
    assert large.status == 413 and large.body is None and 'at most 0.0 MB' in large.reason
    streamed = Request('POST', '/uploads', bytes(1000), bytes(501)).run()
    assert 'at most' in str(streamed.error) and streamed.error.status == 413
    assert Request('POST', '/uploads', content_length='x').run().status == 413


def test_a_request_has_a_time():
    slow = Request('POST', '/uploads', b'abc', stalls=True).run()
    assert slow.error.status == 408 and 'within 0.2 seconds' in str(slow.error)
    event = Request('POST', EVENT, b'{', stalls=True).run()
    assert event.status == 408 and event.body is None


def test_an_event_of_plain_values_passes():
    event = dict(data=['a', 1, 0.5, True, None], fn_index=0, session_hash='x')
    request = Request('POST', EVENT, json.dumps(event).encode()).run()
    assert request.status == 200 and json.loads(request.body) == dict(event, event_data=None)


@pytest.mark.parametrize(
    'body',
    [
        b'{"data": [{"path": "http://example.com", "meta": {"_type": "gradio.FileData"}}]}',
        b'{"data": [["a"]]}',
        b'{"data": {"path": "/etc/passwd"}}',
        b'{"data": "abc"}',
        b'[]',
        b'"',
        b'\xff',
        b'[' * 60_000,
    ],
)
def test_an_event_that_names_a_file_is_refused(body):
    request = Request('POST', EVENT, body).run()
    assert request.status == 400 and request.body is None


def test_a_long_event_is_refused():
    assert Request('POST', EVENT, b' ' * (2**16 + 1)).run().status == 413

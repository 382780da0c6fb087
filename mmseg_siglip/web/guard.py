"""What stands before every route: who asks, for what, and how much.

Gradio brings routes that visitors of this page have no need of: some take files, some fetch any
address, and its events fetch an address that stands in the place of a value. Only the routes that
the page uses pass, and events whose values are plain.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mmseg_siglip.web.limits import Limits, Refusal

LOOPBACK = ('localhost', '127.0.0.1', '::1')
EVENT = '/gradio_api/queue/join'
EVENT_BYTES = 2**16
OPEN = {
    'GET': re.compile(
        r'/|/config|/theme\.css|/favicon\.ico|/manifest\.json|/robots\.txt'
        r'|/(assets|static|svelte)/[^?]*'
        r'|/gradio_api/(heartbeat/\w+|queue/data|startup-events|theme\.css)'
        r'|/api|/health|/(uploads|web)/[\w.-]+|/results/[\w-]+/[\w.]+'
    ),
    'POST': re.compile(rf'{EVENT}|/gradio_api/(reset|cancel)|/api/\w+|/uploads|/setup|/predict'),
}
"""Paths that there are, by method; `HEAD` counts as `GET`."""
SMALL = re.compile(r'/gradio_api/.*|/setup')
POLICY = (
    "default-src 'self'",
    "script-src 'self' 'unsafe-inline' 'unsafe-eval'",
    "style-src 'self' 'unsafe-inline'",
    "img-src 'self' data: blob:",
    "font-src 'self' data:",
    "object-src 'none'",
    "base-uri 'self'",
    "form-action 'self'",
    "frame-ancestors 'none'",
)
"""By which a browser asks no other host for anything; Gradio's own scripts need both `unsafe`."""
HEADERS = {
    'Content-Security-Policy': '; '.join(POLICY),
    'Referrer-Policy': 'no-referrer',
    'X-Content-Type-Options': 'nosniff',
}


class Guard:
    """Refuses requests before they reach the app within.

    Args:
        app: The app.
        limits: How much a request may send, and how long it may take to arrive.
        hosts: Names by which the server may be called; any if empty.
    """

    def __init__(self, app: ASGIApp, *, limits: Limits, hosts: Sequence[str] = LOOPBACK) -> None:
        self.app, self.limits, self.hosts = app, limits, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope['type'] == 'lifespan':
            await self.app(scope, receive, send)
            return

        async def send_on(message: Message) -> None:
            if message['type'] == 'http.response.start':
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        try:
            self._check(scope)
            most = EVENT_BYTES if SMALL.fullmatch(scope['path']) else self.limits.body_bytes
            arriving = Arriving(receive, most, self.limits.body_seconds)
            if scope['path'] == EVENT:
                arriving = Plain(await arriving.whole(), receive)
        except Refusal as refusal:
            response = JSONResponse(dict(error=str(refusal)), refusal.status)
            await response(scope, receive, send_on)
            return
        await self.app(scope, arriving, send_on)

    def _check(self, scope: Scope) -> None:
        """Raises: Refusal: There is no such path, or somebody else's page asks."""
        if scope['type'] != 'http':
            raise Refusal('expected HTTP', 404)
        method = 'GET' if scope['method'] == 'HEAD' else scope['method']
        if method not in OPEN or not OPEN[method].fullmatch(scope['path']):
            raise Refusal('there is nothing here', 404)
        headers = Headers(scope=scope)
        host = headers.get('host', '')
        if self.hosts and host_of(host) not in self.hosts:
            raise Refusal(f'expected one of {", ".join(self.hosts)} as host', 403)
        origin = headers.get('origin')
        if method == 'POST' and origin and urlsplit(origin).netloc != host:
            raise Refusal('expected a request of this page, found one of another', 403)
        length = headers.get('content-length', '0')
        if not length.isdecimal() or int(length) > self.limits.body_bytes:
            raise too_much(self.limits.body_bytes)


class Arriving:
    """A request's body on its way in.

    Args:
        receive: Where it comes from.
        most: Bytes.
        seconds: Time for all of it.
    """

    def __init__(self, receive: Receive, most: int, seconds: float) -> None:
        self.receive, self.most, self.seconds = receive, most, seconds
        self.size, self.ended, self.end = 0, False, None

    async def __call__(self) -> Message:
        if self.ended:
            return await self.receive()
        now = asyncio.get_running_loop().time()
        self.end = self.end or now + self.seconds
        try:
            message = await asyncio.wait_for(self.receive(), self.end - now)
        except asyncio.TimeoutError:
            raise Refusal(f'expected the request within {self.seconds:g} seconds', 408) from None
        self.ended = not message.get('more_body', False)
        self.size += len(message.get('body', b''))
        if self.size > self.most:
            raise too_much(self.most)
        return message

    async def whole(self) -> bytes:
        parts = []
        while not self.ended:
            parts.append((await self()).get('body', b''))
        return b''.join(parts)


class Plain:
    """The body of an event, if all its values are plain.

    Args:
        body: What came.
        receive: What comes after it.

    Raises:
        Refusal: A value is an object, which Gradio would take for a file, or an address to fetch.
    """

    def __init__(self, body: bytes, receive: Receive) -> None:
        try:
            event = json.loads(body)
            values = event.get('data') or []
        except (ValueError, AttributeError, RecursionError):
            raise Refusal('expected an event of this page') from None
        if not isinstance(values, list) or not all(map(is_scalar, values)):
            raise Refusal('expected plain values in an event')
        event = dict(event, event_data=None)
        self.message = dict(type='http.request', body=json.dumps(event).encode(), more_body=False)
        self.receive = receive

    async def __call__(self) -> Message:
        message, self.message = self.message, None
        return message or await self.receive()


def is_scalar(value: Any) -> bool:
    return value is None or isinstance(value, (str, int, float, bool))


def too_much(most: int) -> Refusal:
    return Refusal(f'expected a request of at most {most / 1e6:.1f} MB', 413)


def host_of(text: str) -> str:
    """The name in a ``Host`` header, without port and brackets."""
    try:
        return urlsplit(f'//{text}').hostname or ''
    except ValueError:
        return ''

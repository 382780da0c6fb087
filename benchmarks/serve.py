"""A server under fifty visitors, good and hostile: what they got, and what it cost in memory.

    python benchmarks/serve.py --seconds 120

Starts ``mmseg-siglip serve`` on what ships along. After a warm-up, each visitor asks again and
again, one thing after the other: a scene of ShapesWorld with words, or something that is to be
refused. An answer counts as polite if it is a result, or one sentence as JSON with a status below
500 or 503.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import io
import json
import random
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import httpx
import numpy as np
import psutil
from PIL import Image

from mmseg_siglip.datasets.shapes_world.scene import CLASSES, generate, scene_seed
from mmseg_siglip.web.limits import Limits

WARM_UP = 4
CONFIG = """<View><Image name="image" value="$image"/><BrushLabels name="tag" toName="image">
<Label value="ring"/><Label value="grass"/></BrushLabels></View>"""
FETCH = dict(path='http://127.0.0.1:9/', meta=dict(_type='gradio.FileData'))

Request = tuple[str, str, dict]


@dataclass
class Seen:
    """What visitors saw: outcomes, seconds of segmentations, bytes of the server each second."""

    counts: Counter = field(default_factory=Counter)
    times: list[float] = field(default_factory=list)
    memory: list[int] = field(default_factory=list)


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, 'PNG')
    return buffer.getvalue()


def scenes() -> list[bytes]:
    return [png(generate(scene_seed('val', i), size=(128, 192)).image) for i in range(8)]


def form(data: bytes, name: str = 'a.png', **fields: str) -> dict:
    return dict(files=dict(image=(name, data)), data=fields)


def good(rng: random.Random, images: list[bytes]) -> dict[str, Callable[[], Request]]:
    def words() -> str:
        return ', '.join(CLASSES[rng.randrange(8) :: 4])

    def predict() -> Request:
        address = 'data:image/png;base64,' + base64.b64encode(rng.choice(images)).decode()
        tasks = [dict(id=1, data=dict(image=address))]
        return 'POST', '/predict', dict(json=dict(tasks=tasks, label_config=CONFIG))

    return {
        'segment': lambda: ('POST', '/api/segment', form(rng.choice(images), words=words())),
        'page': lambda: ('GET', '/', {}),
        'upload': lambda: ('POST', '/uploads', form(rng.choice(images))),
        'predict': predict,
        'event': lambda: event(rng, ['example-0', words(), 'shapes', 'csa']),
    }


def event(rng: random.Random, data: list) -> Request:
    body = dict(data=data, fn_index=1, session_hash=f'{rng.getrandbits(40):x}')
    return 'POST', '/gradio_api/queue/join', dict(json=body)


def hostile(
    rng: random.Random, images: list[bytes], bomb: bytes
) -> dict[str, Callable[[], Request]]:
    def broken() -> bytes:
        data = bytearray(rng.choice(images))
        for _ in range(20):
            data[rng.randrange(len(data))] = rng.randrange(256)
        return bytes(data[: rng.randrange(len(data))])

    def path(*paths: str) -> Callable[[], Request]:
        return lambda: (rng.choice(['GET', 'POST']), rng.choice(paths), {})

    return {
        'a bomb of 81 megapixels': lambda: ('POST', '/api/segment', form(bomb, words='a')),
        'a broken image': lambda: ('POST', '/uploads', form(broken())),
        'no image': lambda: ('POST', '/uploads', form(rng.randbytes(5000))),
        '14 MB': lambda: ('POST', '/uploads', form(bytes(14_000_000))),
        '30 MB': lambda: ('POST', '/uploads', form(bytes(30_000_000))),
        'too many words': lambda: (
            'POST',
            '/api/segment',
            form(images[0], words=','.join(map(str, range(500)))),
        ),
        'words as markup': lambda: event(rng, ['example-0', '<script>', 'shapes', 'csa']),
        'a file in an event': lambda: event(rng, [FETCH, 'a', 'shapes', 'csa']),
        'another model': lambda: (
            'POST',
            '/api/segment',
            form(images[0], words='a', model='/etc/passwd', method='../x'),
        ),
        'an address to fetch': lambda: (
            'POST',
            '/predict',
            dict(json=dict(tasks=[dict(data=dict(image=FETCH['path']))], label_config=CONFIG)),
        ),
        'nested JSON': lambda: ('POST', '/predict', dict(content=b'[' * 100_000)),
        'no form': lambda: (
            'POST',
            '/api/segment',
            dict(content=rng.randbytes(2000), headers={'content-type': 'multipart/form-data'}),
        ),
        'closed paths': path(
            '/gradio_api/file=/etc/passwd', '/gradio_api/upload', '/gradio_api/proxy=http://a/'
        ),
        'another host': lambda: ('GET', '/', dict(headers=dict(host='example.com'))),
        'another page': lambda: (
            'POST',
            '/uploads',
            form(images[0]) | dict(headers=dict(origin='http://example.com')),
        ),
    }


def judge(response: httpx.Response) -> str:
    """``answered``, ``refused``, ``busy``, or what was wrong with it."""
    if response.status_code < 400:
        return 'answered'
    try:
        sentence = response.json().get('error') or response.json()['detail']
    except (ValueError, KeyError, AttributeError):
        return f'{response.status_code} without a sentence'
    if response.status_code == 503:
        return 'busy'
    plain = isinstance(sentence, str) and '\n' not in sentence
    return 'refused' if response.status_code < 500 and plain else f'{response.status_code}'


async def visit(
    client: httpx.AsyncClient, kinds: dict[str, dict], rng: random.Random, until: float, seen: Seen
) -> None:
    while time.monotonic() < until:
        of = rng.choice([*kinds])
        name = rng.choice([*kinds[of]])
        method, path, options = kinds[of][name]()
        start = time.monotonic()
        try:
            outcome = judge(await client.request(method, path, **options))
        except httpx.TransportError as error:
            outcome = f'connection: {type(error).__name__}'
        seen.counts[of, name, outcome] += 1
        if (name, outcome) == ('segment', 'answered'):
            seen.times.append(time.monotonic() - start)
        await asyncio.sleep(rng.random())


async def watch(memory: Callable[[], int], until: float, seen: Seen) -> None:
    while time.monotonic() < until:
        seen.memory.append(memory())
        await asyncio.sleep(1)


async def crowd(
    address: str, visitors: int, seconds: float, images: list[bytes], memory: Callable[[], int]
) -> Seen:
    seen, bomb = Seen(), png(np.zeros((9000, 9000), np.uint8))
    limits = httpx.Limits(max_connections=visitors)
    async with httpx.AsyncClient(base_url=address, timeout=120, limits=limits) as client:
        until = time.monotonic() + seconds
        visits = [watch(memory, until, seen)]
        for seed in range(visitors):
            rng = random.Random(seed)  # noqa: S311  # nosec B311
            kinds = dict(good=good(rng, images), hostile=hostile(rng, images, bomb))
            visits.append(visit(client, kinds, rng, until, seen))
        await asyncio.gather(*visits)
    return seen


def wait_for(address: str, process: subprocess.Popen) -> None:
    for _ in range(600):
        try:
            httpx.get(address, timeout=60)
            return
        except httpx.TransportError:
            assert process.poll() is None, 'the server has ended'
            time.sleep(0.5)
    raise SystemExit('the server does not answer')


def warm_up(address: str, images: list[bytes]) -> None:
    """Some of everything, and as many uploads as are kept: what grows afterwards is no store."""
    large = png(np.random.default_rng(0).integers(0, 256, (1500, 2000, 3), np.uint8))
    with httpx.Client(base_url=address, timeout=300) as client:
        for number in range(WARM_UP):
            words = ', '.join(CLASSES[number % 8 :: 4])
            client.post('/api/segment', **form(images[number % 8], words=words))
        for _ in range(Limits().kept_bytes // len(large) + 1):
            client.post('/uploads', **form(large)).raise_for_status()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--visitors', type=int, default=50, help='at once [%(default)s]')
    parser.add_argument('--seconds', type=float, default=120, help='[%(default)s]')
    args = parser.parse_args()

    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # ends the server, too
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    address, images = f'http://127.0.0.1:{port}', scenes()
    command = [sys.executable, '-m', 'mmseg_siglip', 'serve', '--port', str(port)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        wait_for(address, process)
        server = psutil.Process(process.pid)
        warm_up(address, images)

        def memory() -> int:
            return server.memory_info().rss

        seen = asyncio.run(crowd(address, args.visitors, args.seconds, images, memory))
        after = memory()
        assert process.poll() is None, 'the server has ended'
        alive = httpx.get(f'{address}/health', timeout=60).json()['status']
    finally:
        process.terminate()
        process.wait(60)

    for (of, name, outcome), count in sorted(seen.counts.items()):
        print(f'{of:<8} {name:<24} {outcome:<28} {count}')
    polite = ('answered', 'refused', 'busy')
    rude = sum(count for (_, _, outcome), count in seen.counts.items() if outcome not in polite)
    report = dict(
        visitors=args.visitors,
        seconds=args.seconds,
        requests=seen.counts.total(),
        impolite=rude,
        segmented=len(seen.times),
        median_seconds=float(np.median(seen.times or [0]).round(2)),
        rss_before_mb=seen.memory[0] // 10**6,
        rss_middle_mb=seen.memory[len(seen.memory) // 2] // 10**6,
        rss_after_mb=after // 10**6,
        rss_most_mb=max(seen.memory) // 10**6,
        afterwards=alive,
    )
    print(json.dumps(report))


if __name__ == '__main__':
    main()

"""Damage to bytes, text and files, drawn from a seeded generator."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

Draw = random.Random
EXTREMES = (
    0,
    1,
    -1,
    2**7,
    2**8 - 1,
    2**15,
    2**16 - 1,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**62,
    2**63 - 1,
)
SIDES = (1, 9_000, 16_000, 16_383, 30_000, 65_535, 130_000, 10**6)
WORDS = (
    '',
    ' ',
    '\0',
    '\ufeff',
    '\u202e',
    'e\u0301',
    '\U0001f408',
    'x' * 5000,
    '..',
    '../../etc/passwd',
    '/etc/passwd',
    'http://127.0.0.1:9/x',
    '%s%n',
    '[background]',
    '#! duplicates: a',
    'a, a',
    'a;b',
    'nan',
    '-1',
    '9' * 5000,
    '1e999',
    '{}',
    'None',
)


def flip(data: bytes, draw: Draw) -> bytes:
    """Some bits."""
    found = bytearray(data)
    for _ in range(draw.choice((1, 1, 2, 4, 16))):
        found[_place(found, draw)] ^= 1 << draw.randrange(8)
    return bytes(found)


def overwrite(data: bytes, draw: Draw) -> bytes:
    """Some bytes by any others."""
    found = bytearray(data)
    for _ in range(draw.choice((1, 2, 8))):
        found[_place(found, draw)] = draw.choice((0, 0xFF, 0x7F, 0x80, draw.randrange(256)))
    return bytes(found)


def extreme(data: bytes, draw: Draw) -> bytes:
    """An integer of 1 to 8 bytes by a very large or very small one."""
    found = bytearray(data)
    size = draw.choice((1, 2, 4, 4, 8))
    value = draw.choice(EXTREMES) % 2 ** (8 * size)
    at = _place(found, draw)
    found[at : at + size] = value.to_bytes(size, draw.choice(('little', 'big')))
    return bytes(found)


def sizes(data: bytes, draw: Draw) -> bytes:
    """Two integers beside each other, as width and height are, by large ones."""
    found = bytearray(data)
    size, order, at = draw.choice((2, 3, 4)), draw.choice(('little', 'big')), _place(found, draw)
    for place in (at, at + size):
        value = draw.choice(SIDES) % 2 ** (8 * size)
        found[place : place + size] = value.to_bytes(size, order)
    return bytes(found)


def truncate(data: bytes, draw: Draw) -> bytes:
    """Without its end."""
    return data[: _place(data, draw)]


def remove(data: bytes, draw: Draw) -> bytes:
    """Without a part."""
    start, end = sorted((_place(data, draw), _place(data, draw)))
    return data[:start] + data[min(end, start + 4096) :]


def repeat(data: bytes, draw: Draw) -> bytes:
    """A part several times."""
    start, end = sorted((_place(data, draw), _place(data, draw)))
    part = data[start : min(end, start + 256)]
    return data[:end] + part * draw.choice((1, 2, 50)) + data[end:]


def splice(data: bytes, draw: Draw) -> bytes:
    """A part elsewhere."""
    start, end = sorted((_place(data, draw), _place(data, draw)))
    part, at = data[start : min(end, start + 1024)], _place(data, draw)
    return data[:at] + part + data[at + len(part) :]


def insert(data: bytes, draw: Draw) -> bytes:
    """Bytes of no meaning in between."""
    at = _place(data, draw)
    return data[:at] + draw.randbytes(draw.choice((1, 3, 64))) + data[at:]


def blank(data: bytes, draw: Draw) -> bytes:
    """A part of zeros."""
    start, end = sorted((_place(data, draw), _place(data, draw)))
    return data[:start] + bytes(end - start) + data[end:]


def replace(data: bytes, draw: Draw) -> bytes:
    """Nothing, or something else altogether."""
    return draw.choice((b'', b'\0', b'\0' * 1000, b'PK\x03\x04', b'{', b'[]', draw.randbytes(500)))


BYTES: tuple[Callable[[bytes, Draw], bytes], ...] = (
    flip,
    flip,
    overwrite,
    overwrite,
    extreme,
    extreme,
    sizes,
    truncate,
    remove,
    repeat,
    splice,
    insert,
    blank,
    replace,
)


def _place(data: bytes | bytearray, draw: Draw) -> int:
    """Of a byte; half of them among the first, where headers are."""
    end = len(data) if draw.random() < 0.5 else min(len(data), 128)
    return draw.randrange(max(end, 1))


def damage_bytes(path: Path, draw: Draw) -> str:
    """One or several of the ways above."""
    data, names = path.read_bytes(), []
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        way = draw.choice(BYTES) if data else insert
        data, names = way(data, draw), [*names, way.__name__]
    path.write_bytes(data)
    return f'{" and ".join(names)} in {path.name}'


def damage_text(path: Path, draw: Draw) -> str:
    """Lines and words of a text moved about and changed, or its bytes."""
    lines = path.read_text(encoding='utf-8', errors='replace').split('\n')
    if draw.random() < 0.3:
        return damage_bytes(path, draw)
    at = draw.randrange(len(lines))
    way = draw.choice(('drop', 'double', 'word', 'word', 'prefix', 'suffix', 'case', 'end', 'long'))
    word = draw.choice(WORDS)
    lines[at : at + 1] = {
        'drop': [],
        'double': [lines[at]] * 2,
        'word': [word],
        'prefix': [word + lines[at]],
        'suffix': [lines[at] + word],
        'case': [lines[at].swapcase(), lines[at]],
        'end': [lines[at] + draw.choice(('\r', '\x85', '\u2028', '\x0b', '\t', '\0'))],
        'long': [lines[at]] * 3000,
    }[way]
    path.write_bytes('\n'.join(lines).encode(draw.choice(('utf-8',) * 8 + ('utf-16', 'utf-8-sig'))))
    return f'{way} {word[:20]!r} at line {at + 1} of {path.name}'


def damage_place(path: Path, draw: Draw) -> str:
    """Something else where a file was."""
    way = draw.choice(('gone', 'empty', 'folder', 'loop', 'dangling', 'pipe', 'endless', 'null'))
    path.unlink()
    if way == 'empty':
        path.touch()
    elif way == 'folder':
        path.mkdir()
    elif way == 'pipe':
        os.mkfifo(path)
    elif way != 'gone':
        targets = dict(loop=path.name, dangling='nothing', endless='/dev/zero', null='/dev/null')
        path.symlink_to(targets[way])
    return f'{way} in place of {path.name}'


def damage_folder(
    ways: Sequence[tuple[str, Callable[[Path, Draw], str]]],
) -> Callable[[Path, Draw], str]:
    """Damage of one file of a folder.

    Args:
        ways: Pattern of a file's name, and how to damage such a file; each is as likely.
    """

    def damage(path: Path, draw: Draw) -> str:
        pattern, way = draw.choice(ways)
        files = sorted(file for file in path.rglob(pattern) if file.is_file())
        return way(draw.choice(files), draw)

    return damage


def swap_file(path: Path, draw: Draw) -> str:
    """Another file of the same folder in its place."""
    others = sorted(file for file in path.parent.iterdir() if file.is_file() and file != path)
    if not others:
        return damage_bytes(path, draw)
    other = draw.choice(others)
    shutil.copyfile(other, path)
    return f'{other.name} in place of {path.name}'

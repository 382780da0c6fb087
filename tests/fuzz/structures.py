"""Damage that keeps a format's frame: JSON, zip, safetensors, pickle, tar."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import tarfile
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

from fuzz.kind import CANARY
from fuzz.mutate import BYTES, EXTREMES, WORDS, Draw, damage_bytes

DEPTH = 20_000
BOMB = 3 * 2**28  # bytes that a small member unpacks to
CODE = f"open({CANARY!r}, 'w').close()\n"
OWN = 'code_of_the_folder'
AUTO = ('AutoConfig', 'AutoModel', 'AutoTokenizer', 'AutoImageProcessor', 'AutoProcessor')


def strange_value(value: Any, draw: Draw) -> Any:
    """Another than `value`, of any type."""
    return draw.choice(
        (
            None,
            True,
            0,
            draw.choice(EXTREMES),
            -draw.choice(EXTREMES),
            10**400,
            0.5,
            float('nan'),
            float('inf'),
            draw.choice(WORDS),
            str(value)[:100],
            [],
            [value],
            [value] * 1000,
            {},
            {'a': value},
            [[[[]]]],
        )
    )


def nodes(tree: Any) -> Iterator[tuple[Any, Any]]:
    """Each container of a tree with one of its keys or indices."""
    stack = [tree]
    while stack:
        node = stack.pop()
        keys = node.keys() if isinstance(node, dict) else range(len(node))
        for key in keys:
            yield node, key
            if isinstance(node[key], (dict, list)):
                stack.append(node[key])


def damage_tree(tree: Any, draw: Draw) -> tuple[Any, str]:
    """Types swapped, keys removed, renamed and added, one to three times."""
    names = []
    for _ in range(draw.choice((1, 1, 2, 3))):
        places = list(nodes(tree)) if isinstance(tree, (dict, list)) else []
        if not places or draw.random() < 0.03:
            tree = strange_value(tree, draw)
            names.append('another top')
            continue
        node, key = draw.choice(places)
        way = draw.choice(('value', 'value', 'value', 'remove', 'rename', 'swap', 'double'))
        if way == 'remove':
            del node[key]
        elif way == 'swap':
            other, place = draw.choice(places)
            node[key] = deepcopy(other[place])
        elif way in ('rename', 'double') and isinstance(node, dict):
            node[draw.choice(WORDS)] = node[key] if way == 'double' else node.pop(key)
        else:
            node[key] = strange_value(node[key], draw)
        names.append(f'{way} {str(key)[:30]!r}')
    return tree, ', '.join(names)


def to_json(tree: Any, draw: Draw) -> str:
    """As text; now and then one that nests deeper than any reader goes."""
    text = json.dumps(tree)
    if draw.random() > 0.04:
        return text
    opened, closed = draw.choice((('[', ']'), ('{"a":', '}')))
    deep = opened * DEPTH + '0' + closed * DEPTH
    return draw.choice((deep, f'{text[:-1]}, "deep": {deep}}}' if text[-1] == '}' else deep))


def damage_json(path: Path, draw: Draw) -> str:
    """The values of a JSON file, or its bytes."""
    if draw.random() < 0.25:
        return damage_bytes(path, draw)
    tree, name = damage_tree(json.loads(path.read_text(encoding='utf-8')), draw)
    text = to_json(tree, draw)
    path.write_bytes(text.encode(errors='surrogatepass'))
    return f'{name} in {path.name}'


def damage_code(path: Path, draw: Draw) -> str:
    """A JSON file that names code beside it, as models with code of their own do."""
    tree = json.loads(path.read_text(encoding='utf-8'))
    names = dict.fromkeys(AUTO, f'{OWN}.Own')
    names['AutoTokenizer'] = [f'{OWN}.Own', f'{OWN}.Own']
    tree['auto_map'] = names
    kept = [key for key in ('model_type', 'tokenizer_class', 'image_processor_type') if key in tree]
    for key in kept:
        if draw.random() < 0.6:
            tree[key] = draw.choice(('own', 'Own', f'{OWN}.Own'))
    path.write_text(json.dumps(tree), encoding='utf-8')
    (path.parent / f'{OWN}.py').write_text(CODE)
    return f'code for {path.name}'


def damage_json_lines(path: Path, draw: Draw) -> str:
    """The values of one line."""
    if draw.random() < 0.25:
        return damage_bytes(path, draw)
    lines = path.read_text(encoding='utf-8').strip().split('\n')
    at = draw.randrange(len(lines))
    tree, name = damage_tree(json.loads(lines[at]), draw)
    lines[at] = to_json(tree, draw)
    path.write_text('\n'.join(lines) + '\n', encoding='utf-8')
    return f'{name} in line {at + 1} of {path.name}'


class _Payload:
    """Runs code when a pickle that holds it is read."""

    def __init__(self, function: Callable, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple:
        return self.call


def hostile(value: Any, draw: Draw) -> Any:
    """`value` beside what makes the canary when it is unpickled."""
    payload = draw.choice(
        (
            _Payload(os.system, f'touch {CANARY}'),
            _Payload(exec, CODE),
            _Payload(open, CANARY, 'w'),
            _Payload(eval, f"__import__('os').mkdir({CANARY!r})"),
            _Payload(os.mknod, CANARY),
        )
    )
    return draw.choice((payload, [value, payload], {'state_dict': value, 'meta': payload}))


def damage_pickle(data: bytes, draw: Draw) -> bytes:
    """A pickle with other bytes, a deep one, one that asks for memory, or one that runs code."""
    way = draw.randrange(10)
    if way == 0:
        return pickle.dumps(hostile({}, draw), protocol=draw.choice((2, 4)))
    if way == 1:
        return b'\x80\x02' + b']' * DEPTH + b'a' * (DEPTH - 1) + b'.'
    if way == 2:  # a memo of many entries, a string of many bytes
        number = struct.pack('<I', draw.choice((2**31 - 1, 2**28, 2**32 - 1)))
        return data[:2] + draw.choice((b'Nr', b'B', b'X', b'T')) + number + data[2:]
    for _ in range(draw.choice((1, 2, 4))):
        data = draw.choice(BYTES)(data, draw) or b'.'
    return data


def damage_pickle_file(path: Path, draw: Draw) -> str:
    path.write_bytes(damage_pickle(path.read_bytes(), draw))
    return f'pickle {path.name}'


def damage_zip(path: Path, draw: Draw) -> str:
    """A member of a zip file with a right checksum, or its bytes."""
    if draw.random() < 0.4:
        return damage_bytes(path, draw)
    with zipfile.ZipFile(path) as archive:
        members = [(info.filename, archive.read(info)) for info in archive.infolist()]
    at = draw.randrange(len(members))
    if draw.random() < 0.5:
        at = next((i for i, (name, _) in enumerate(members) if name.endswith('.pkl')), at)
    name, data = members[at]
    way = draw.choice((*['content'] * 6, 'remove', 'rename', 'double', 'bomb'))
    if way == 'content':
        damage = damage_pickle if name.endswith('.pkl') else draw.choice(BYTES)
        members[at] = name, damage(data or b'\0', draw)
    elif way == 'remove':
        del members[at]
    elif way == 'rename':
        root = name.split('/')[0]
        others = ('../x', '/x', 'data.pkl', f'{root}/data.pkl', f'{root}/constants.pkl', 'x' * 300)
        members[at] = draw.choice(others), data
    elif way == 'double':
        members.append((name, draw.randbytes(len(data))))
    with warnings.catch_warnings(), zipfile.ZipFile(path, 'w') as archive:
        warnings.simplefilter('ignore')  # of names that are there twice
        for index, (name, data) in enumerate(members):
            if way == 'bomb' and index == at:
                _add_bomb(archive, name)
            else:
                archive.writestr(name, data)
    return f'{way} of {members[min(at, len(members) - 1)][0][:40] if members else "all"}'


@cache
def _bomb() -> tuple[bytes, int]:
    """Zeros as deflate has them, and their checksum."""
    pack, checksum, parts, zeros = zlib.compressobj(1, wbits=-15), 0, [], bytes(2**20)
    for _ in range(BOMB // len(zeros)):
        parts.append(pack.compress(zeros))
        checksum = zlib.crc32(zeros, checksum)
    return b''.join((*parts, pack.flush())), checksum


def _add_bomb(archive: zipfile.ZipFile, name: str) -> None:
    info = zipfile.ZipInfo(name)
    packed, checksum = _bomb()
    archive.writestr(info, packed)
    # What the directory at the end says is believed.
    info.compress_type, info.file_size, info.CRC = zipfile.ZIP_DEFLATED, BOMB, checksum


def damage_safetensors(path: Path, draw: Draw) -> str:
    """The header, with a right length, or any bytes."""
    data = path.read_bytes()
    if draw.random() < 0.3:
        return damage_bytes(path, draw)
    size = int.from_bytes(data[:8], 'little')
    header, name = damage_tree(json.loads(data[8 : 8 + size]), draw)
    text = to_json(header, draw).encode(errors='surrogatepass')
    path.write_bytes(len(text).to_bytes(8, 'little') + text + data[8 + size :])
    return f'{name} in the header of {path.name}'


def damage_tar(path: Path, draw: Draw) -> str:
    """A header with a right checksum, or any bytes."""
    if draw.random() < 0.4:
        return damage_bytes(path, draw)
    with tarfile.open(path) as archive:
        members = [(info, archive.extractfile(info).read()) for info in archive]
    at = draw.randrange(len(members))
    info, data = members[at]
    way = draw.choice(('size', 'name', 'type', 'data', 'remove'))
    if way == 'size':
        info.size = draw.choice((*map(abs, EXTREMES), len(data) + 1, 2**62, 8**11))
    elif way == 'name':
        info.name = draw.choice((*WORDS, 'a/../../b.png', './a.png', 'a//b.png', '/' + info.name))
    elif way == 'type':
        info.type = draw.choice((tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, b'S', b'x'))
        info.linkname = draw.choice(('/etc/passwd', '../x', info.name))
    elif way == 'data':
        members[at] = info, draw.choice(BYTES)(data, draw)
        info.size = len(members[at][1])
    else:
        del members[at]
    found = io.BytesIO()
    for info, data in members:
        try:
            found.write(info.tobuf(draw.choice((tarfile.GNU_FORMAT, tarfile.PAX_FORMAT))))
        except (ValueError, OverflowError):
            found.write(info.tobuf(tarfile.PAX_FORMAT, errors='replace'))
        found.write(data + bytes(-len(data) % tarfile.BLOCKSIZE))
    path.write_bytes(found.getvalue() + bytes(2 * tarfile.BLOCKSIZE))
    return f'{way} in {path.name}'

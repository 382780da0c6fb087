"""A file from the web, whole or not at all."""

from __future__ import annotations

import hashlib
import re
import time
from http.client import HTTPException, InvalidURL
from pathlib import Path
from typing import BinaryIO
from urllib.error import HTTPError
from urllib.parse import urldefrag, urlsplit
from urllib.request import Request, urlopen

from mmseg_siglip.io.files import whole_file

PATIENCE = 30.0
"""Seconds that a server may keep silent."""
PAUSES = (1.0, 4.0, 15.0)
"""Seconds before each further try."""
ASK_AGAIN = (408, 425, 429)
CHUNK = 1 << 20
IN_FRAGMENT = re.compile(r'sha256=([0-9a-f]{8,64})')
IN_FOLDER = re.compile(r'[0-9a-f]{64}')
IN_NAME = re.compile(r'-([0-9a-f]{8,64})\.(?:pth|pt|bin|safetensors|tar|pth\.tar)')
DATE = re.compile(r'(?:19|20)\d{6}')


def digest_in(address: str, *, names: bool = True) -> str | None:
    """The first hexadecimal digits of a file's SHA-256 that its address says; None if none are.

    After ``#sha256=``; or, of published weights, as OpenAI has them, in the last folder's name; or
    as torch.hub, OpenMMLab and open_clip do, behind the last dash of the file's name.

    Args:
        address: ``http(s)://``.
        names: Whether names of folders and files say it.
    """
    address, fragment = urldefrag(address)
    parts = urlsplit(address).path.split('/')
    if match := IN_FRAGMENT.fullmatch(fragment):
        return match[1]
    if not names:
        return None
    if len(parts) > 1 and IN_FOLDER.fullmatch(parts[-2]):
        return parts[-2]
    match = IN_NAME.search(parts[-1])
    return match[1] if match and not DATE.fullmatch(match[1]) else None


def download(address: str, target: Path, *, most: int | None = None, names: bool = True) -> None:
    """Bring the file of an address to `target`, its length and digest checked where they are known.

    What fails on the way is tried again; what a server refuses is not.

    Args:
        address: ``http(s)://``, see `digest_in`.
        target: The file.
        most: Bytes that it may have.
        names: See `digest_in`.

    Raises:
        OSError: It does not come, or comes cut short.
        ValueError: It has another digest, or more bytes.
    """
    for pause in (*PAUSES, None):
        try:
            with whole_file(target) as draft, draft.open('wb') as file:
                _copy(address, file, most, names)
            return
        except (OSError, HTTPException) as error:
            refused = isinstance(error, HTTPError) and error.code < 500
            refused = refused and error.code not in ASK_AGAIN
            if pause is None or refused or isinstance(error, InvalidURL):
                raise OSError(str(error) or type(error).__name__) from error
            time.sleep(pause)


def _copy(address: str, file: BinaryIO, most: int | None, names: bool) -> None:
    request = Request(urldefrag(address).url, headers={'User-Agent': 'mmseg_siglip'})
    found, size = hashlib.sha256(), 0
    with urlopen(request, timeout=PATIENCE) as response:
        length = response.headers.get('Content-Length')
        if most is not None and length is not None and int(length) > most:
            raise ValueError(f'has {int(length)} bytes, expected at most {most}')
        while chunk := response.read(CHUNK):
            file.write(chunk)
            found.update(chunk)
            size += len(chunk)
            if most is not None and size > most:
                raise ValueError(f'has more than {most} bytes')
    if length is not None and size != int(length):
        raise OSError(f'only {size} of {length} bytes came')
    wanted = digest_in(address, names=names)
    if wanted is not None and not found.hexdigest().startswith(wanted):
        raise ValueError(
            f'expected a file of the digest {wanted}, found {found.hexdigest()[: len(wanted)]}'
        )

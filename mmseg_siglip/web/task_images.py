"""Images of Label Studio's tasks: inside the request, or below a folder that the owner named.

Nothing is fetched: who may send tasks could otherwise make the server ask any address.
"""

from __future__ import annotations

import base64
import binascii
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from mmseg_siglip.io.regular_file import read_regular
from mmseg_siglip.web.limits import Limits, Refusal
from mmseg_siglip.web.uploads import shown_name

LOCAL = '/data/local-files/'
UPLOADED = '/data/upload/'


def read_task_image(address: object, folder: Path | None, limits: Limits) -> tuple[bytes, str]:
    """An image's file, and what to call it.

    Args:
        address: As tasks have it: ``data:image/png;base64,...``, ``/data/local-files/?d=PATH`` or
            ``/data/upload/PATH``.
        folder: Where such paths begin; None if the owner named no folder.
        limits: How large it may be.

    Raises:
        Refusal: It is another address, or no file in the folder.
    """
    if not isinstance(address, str):
        raise Refusal('expected the address of an image in the data of a task')
    if address.startswith('data:'):
        head, comma, text = address.partition(',')
        try:
            if not comma or not head.endswith(';base64'):
                raise binascii.Error
            return base64.b64decode(text, validate=True), 'the image'
        except (binascii.Error, ValueError):
            raise Refusal('expected an image in base64 after data:') from None
    path = own_path(address)
    if path is None:
        raise Refusal(
            f'expected an image as data:...;base64 or below {LOCAL} or {UPLOADED}, found another '
            'address; nothing is fetched here'
        )
    if folder is None:
        raise Refusal('this server reads no folder; its owner names one by --label-studio-images')
    return read_inside(folder, path, limits), shown_name(path)


def own_path(address: str) -> str | None:
    """The path that an address of Label Studio's own files names; None of any other."""
    parts = urlsplit(address)
    if parts.scheme or parts.netloc:
        return None
    if parts.path == LOCAL:
        return next(iter(parse_qs(parts.query).get('d', [])), None)
    return unquote(parts.path).removeprefix(UPLOADED) if parts.path.startswith(UPLOADED) else None


def read_inside(folder: Path, path: str, limits: Limits) -> bytes:
    """The bytes of a regular file below a folder.

    Raises:
        Refusal: There is none, it lies elsewhere, by a link or by dots, or it is too large.
    """
    missing = Refusal(
        f'{shown_name(path)}: there is no such image in the folder of the server', 404
    )
    if '\0' in path:
        raise missing
    root = folder.resolve()
    place = Path(root, path).resolve()
    if root not in place.parents or not place.is_file():
        raise missing
    if place.stat().st_size > limits.file_bytes:
        raise Refusal(f'{shown_name(path)}: expected at most {limits.file_bytes / 1e6:g} MB', 413)
    try:
        return read_regular(place)
    except (OSError, ValueError):
        raise missing from None

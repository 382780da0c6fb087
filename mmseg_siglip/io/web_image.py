"""Images at addresses that the user typed. Nothing that came from elsewhere is fetched."""

from __future__ import annotations

import re
from hashlib import sha256
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from mmseg_siglip.io.download import download

MOST_BYTES = 100_000_000
SCHEMES = ('http://', 'https://')
NAME_BYTES = 100
SUFFIX_BYTES = 10
IN_URLS = "/?%:@!$&'()*+,;=~"  # what an address may hold beside letters and digits


def is_address(image: str | Path) -> bool:
    """Whether this names an image on the web, not a file."""
    return isinstance(image, str) and image.lower().startswith(SCHEMES)


def fetch_image(address: str) -> bytes:
    """The file at an address, as it came.

    Raises:
        ValueError: It does not come, or has more than `MOST_BYTES`; the message names the address.
    """
    with TemporaryDirectory() as folder:
        file = Path(folder, 'image')
        try:
            download(quoted(address), file, most=MOST_BYTES, names=False)
        except (OSError, ValueError) as error:
            raise ValueError(f'{address} cannot be downloaded: {error}') from error
        return file.read_bytes()


def quoted(address: str) -> str:
    """An address as servers are asked for it: spaces and letters beyond ASCII as ``%20``."""
    parts = urlsplit(address)
    path, query = quote(parts.path, safe=IN_URLS), quote(parts.query, safe=IN_URLS)
    return urlunsplit((parts.scheme, parts.netloc, path, query, parts.fragment))


def name_at(address: str) -> str:
    """What to call an image: the last part of the address, and of a query a few digits.

    It is the name of a file in every folder.
    """
    parts = urlsplit(address)
    last = PurePosixPath(unquote(parts.path)).name
    name = re.sub(r'[^\w.-]+', '_', last).lstrip('.')
    name = _cut(name) or 'image'
    if not parts.query:
        return name
    digits = sha256(parts.query.encode()).hexdigest()[:8]
    return f'{PurePosixPath(name).stem}-{digits}{PurePosixPath(name).suffix}'


def _cut(name: str) -> str:
    """A name of at most `NAME_BYTES`, with its suffix."""
    suffix = PurePosixPath(name).suffix
    suffix = suffix if len(suffix.encode()) <= SUFFIX_BYTES else ''
    stem = name.removesuffix(suffix).encode()[: NAME_BYTES - len(suffix.encode())]
    return stem.decode(errors='ignore') + suffix

"""Images at addresses that the user typed. Nothing that came from elsewhere is fetched."""

from __future__ import annotations

import re
from hashlib import sha256
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from urllib.parse import unquote, urlsplit

from mmseg_siglip.io.download import download

MOST_BYTES = 100_000_000
SCHEMES = ('http://', 'https://')
LETTERS = 100


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
            download(address, file, most=MOST_BYTES)
        except (OSError, ValueError) as error:
            raise ValueError(f'{address} cannot be downloaded: {error}') from error
        return file.read_bytes()


def name_at(address: str) -> str:
    """What to call an image: the last part of the address, and of a query a few digits.

    It is the name of a file in every folder.
    """
    parts = urlsplit(address)
    last = PurePosixPath(unquote(parts.path)).name
    name = re.sub(r'[^\w.-]+', '_', last).lstrip('.')[:LETTERS] or 'image'
    if not parts.query:
        return name
    digits = sha256(parts.query.encode()).hexdigest()[:8]
    return f'{PurePosixPath(name).stem}-{digits}{PurePosixPath(name).suffix}'

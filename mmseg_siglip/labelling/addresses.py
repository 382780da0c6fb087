"""Addresses that fsspec knows, such as ``s3://bucket/a.tar``: found, fetched, and why not."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import fsspec

from mmseg_siglip.io.failures import OutputError
from mmseg_siglip.io.files import NO_ROOM

logging.getLogger('gcsfs').addHandler(logging.NullHandler())  # it prints tracebacks of its own


def is_url(place: str) -> bool:
    return '://' in place


def matching(address: str) -> list[str]:
    """What lies at an address with stars, sorted.

    Raises:
        ValueError: Nothing lies there, or it cannot be asked.
    """
    try:
        fs, pattern = fsspec.core.url_to_fs(address)
        found = sorted(map(fs.unstrip_protocol, fs.glob(pattern)))
    except Exception as error:  # each store has its own
        raise ValueError(f'{address}: cannot be listed: {said_by_store(error)}') from error
    if not found:
        raise ValueError(f'{address}: nothing lies there')
    return found


@contextmanager
def on_disk(place: str) -> Iterator[Path]:
    """A file of this machine, for a while if `place` is an address.

    Raises:
        ValueError: It is not there, or cannot be fetched; the message follows `place`.
        OutputError: There is no room for it.
    """
    if not is_url(place):
        if not os.path.isfile(place):
            raise ValueError('no such file')
        yield Path(place)
        return
    with temporary_folder(place) as folder:
        target = Path(folder, place.rpartition('/')[2])
        try:
            fs, path = fsspec.core.url_to_fs(place)
            fs.get_file(path, str(target))
        except FileNotFoundError:
            raise ValueError('no such file') from None
        except ImportError as error:
            raise ValueError(f'cannot be fetched: {error}') from error
        except Exception as error:  # each store has its own
            if getattr(error, 'errno', None) in NO_ROOM:
                raise OutputError(f'{folder}, for {place}: cannot be written: {error}') from error
            raise ValueError(f'cannot be fetched: {said_by_store(error)}') from error
        yield target


def said_by_store(error: Exception) -> str:
    """What a store says, in a line."""
    if isinstance(error, FileNotFoundError) and not error.strerror:  # gcsfs gives its own address
        return 'no such bucket or folder'
    text = getattr(error, 'strerror', None) or str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__


def temporary_folder(place: str) -> tempfile.TemporaryDirectory:
    """To fetch `place` to.

    Raises:
        OutputError: There can be none.
    """
    try:
        return tempfile.TemporaryDirectory(prefix='mmseg_siglip_')
    except OSError as error:
        raise OutputError(f'no temporary folder for {place}: {error}') from error

"""Bring a weights address (http, Hub, model zoo name) to a local file."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from filelock import FileLock
from mmengine.runner.checkpoint import (
    get_deprecated_model_names,
    get_external_models,
    get_mmcls_models,
    get_torchvision_models,
)

from mmseg_siglip.io.cache import cache_folder
from mmseg_siglip.io.download import download


def _from_http(address: str) -> Path:
    """Each address has a file of its own; of several processes one downloads."""
    digest = hashlib.sha256(address.encode()).hexdigest()[:16]
    name = Path(urlsplit(address).path).name or 'weights'
    target = cache_folder('downloads') / f'{digest}-{name}'
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f'{target}.lock'):
        if not target.is_file():
            try:
                download(address, target)
            except (OSError, ValueError) as error:
                raise ValueError(f'{address} cannot be downloaded: {error}.') from error
    return target


def _from_hub(address: str) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    parts = address.removeprefix('hf://').split('/', 2)
    if len(parts) < 3 or not all(parts):
        raise ValueError(
            f'{address} names no file, expected hf://owner/repository[@revision]/file.'
        )
    owner, repository, file = parts
    repository, _, revision = repository.partition('@')
    try:
        return Path(hf_hub_download(f'{owner}/{repository}', file, revision=revision or None))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().split('\n')[0].rstrip('.')
        raise ValueError(f'{address} cannot be fetched from the Hub: {reason}.') from error


def _lookup(address: str, names: dict[str, str]) -> Path:
    scheme, _, name = address.partition('://')
    if names.get(name) is None:  # torchvision names models that it has no weights of
        raise ValueError(f'{address} is unknown: {scheme} has no model named {name!r}.')
    return fetch(names[name])


def _from_torchvision(address: str) -> Path:
    return _lookup(address, get_torchvision_models())


def _from_openmmlab(address: str) -> Path:
    scheme, _, name = address.partition('://')
    name = get_deprecated_model_names().get(name, name)
    return _lookup(f'{scheme}://{name}', get_external_models())


def _from_mmcls(address: str) -> Path:
    return _lookup(address, get_mmcls_models())


SOURCES: dict[str, Callable[[str], Path]] = {
    'http': _from_http,
    'https': _from_http,
    'hf': _from_hub,
    'torchvision': _from_torchvision,
    'modelzoo': _from_torchvision,
    'open-mmlab': _from_openmmlab,
    'openmmlab': _from_openmmlab,
    'mmcls': _from_mmcls,
}


def fetch(address: str | Path) -> Path:
    """The local file behind an address; a local path is returned as it is.

    Addresses: ``http(s)://``, whose file may have to have a digest (see `digest_in`),
    ``hf://owner/repository[@revision]/file``, and the names of MMEngine's model zoos
    (``torchvision://``, ``open-mmlab://``, ``mmcls://``).

    Raises:
        ValueError: the scheme is not served, the name is unknown, or the download failed.
    """
    address = str(address)
    scheme, separator, _ = address.partition('://')
    if not separator:
        return Path(address).expanduser()
    if scheme not in SOURCES:
        raise ValueError(
            f'{address} cannot be fetched: {scheme}:// is none of {", ".join(sorted(SOURCES))}; '
            'download the file and give its path.'
        )
    return SOURCES[scheme](address)

"""The weight files of a checkpoint in transformers' format, in one piece or several."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import hf_hub_download
from transformers.utils import (
    SAFE_WEIGHTS_INDEX_NAME,
    SAFE_WEIGHTS_NAME,
    WEIGHTS_INDEX_NAME,
    WEIGHTS_NAME,
)

from mmseg_siglip.weights.json_file import read_object

NAMES = (SAFE_WEIGHTS_NAME, SAFE_WEIGHTS_INDEX_NAME, WEIGHTS_NAME, WEIGHTS_INDEX_NAME)
"""As transformers looks for them: the first there is."""
INDICES = (SAFE_WEIGHTS_INDEX_NAME, WEIGHTS_INDEX_NAME)


def read_index(path: str | Path) -> dict[str, str]:
    """Tensor to the name of its file, which lies beside the index.

    Raises:
        ValueError: It is no index, or names a file elsewhere.
    """
    places = read_object(path).get('weight_map')
    if not isinstance(places, dict) or not places:
        raise ValueError(f'{path}: expected weight_map, tensors and their files, found none')
    for file in places.values():
        if not isinstance(file, str) or not file or Path(file).name != file:
            raise ValueError(f'{path}: expected files beside it, found {file!r}')
    return places


def first_file(source: str, *, revision: str | None = None) -> Path | None:
    """The weights, or the index of their pieces, of a folder or Hub id, if they are to be had."""
    found = (_file(source, name, revision) for name in NAMES)
    return next((path for path in found if path is not None), None)


def weight_files(source: str, *, revision: str | None = None) -> list[Path]:
    """The files with weights of a folder or Hub id; none where there are none to be had.

    Raises:
        ValueError: There is an index and it is none.
    """
    path = first_file(source, revision=revision)
    if path is None or path.name not in INDICES:
        return [path] if path else []
    files = [_file(source, file, revision) for file in sorted(set(read_index(path).values()))]
    return [file for file in files if file is not None]


def _file(source: str, name: str, revision: str | None) -> Path | None:
    if Path(source).is_dir():
        path = Path(source, name)
        return path if path.is_file() else None
    try:
        return Path(hf_hub_download(source, name, revision=revision))
    except (OSError, ValueError):
        return None

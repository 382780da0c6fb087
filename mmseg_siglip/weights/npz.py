"""Arrays of numbers in a ``.npz``, the file that big_vision saves."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mmseg_siglip.weights.claims import check_archive

ENDING = '.npy'
BFLOAT16 = '|V2'
"""How NumPy writes bfloat16, which it does not know."""


def is_npz(path: str | Path) -> bool:
    """Whether a file is a zip archive of arrays and of nothing else."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except Exception:  # zipfile has no one error for the many ways in which bytes can be wrong
        return False
    return bool(names) and all(name.endswith(ENDING) for name in names)


def read_npz(path: str | Path) -> dict[str, Tensor]:
    """Each array as a tensor, by its name.

    Raises:
        ValueError: The file is damaged, claims more than it holds, or holds other than numbers.
    """
    tensors = {}
    try:
        check_archive(path)
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                with archive.open(info) as file:
                    _check_header(file, info.file_size)
                with archive.open(info) as file:
                    array = np.lib.format.read_array(file, allow_pickle=False)
                tensors[info.filename.removesuffix(ENDING)] = _tensor(array)
    except Exception as error:
        reason = str(error).split('\n')[0].rstrip('.')
        raise ValueError(f'{path} is damaged or holds no numbers: {reason}.') from error
    return tensors


def _check_header(file: zipfile.ZipExtFile, held: int) -> None:
    first = np.lib.format.read_magic(file) == (1, 0)
    read = np.lib.format.read_array_header_1_0 if first else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)
    claimed = dtype.itemsize
    for side in shape:
        claimed *= side
    if claimed > held:
        raise ValueError(f'{held} bytes claim to hold an array of {claimed}')


def _tensor(array: np.ndarray) -> Tensor:
    if array.dtype.str == BFLOAT16:
        return torch.from_numpy(array.view(np.uint16)).view(torch.bfloat16)
    return torch.from_numpy(array)

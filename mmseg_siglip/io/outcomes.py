"""What becomes of each of many images: what fails for one fails for that one alone."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from mmseg_siglip.ending import TRACEBACK_VARIABLE

OF_A_NAME = {
    *(errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOTEMPTY),
    *(errno.ELOOP, errno.EILSEQ, errno.EINVAL),
}
"""Why a file of that name cannot be written; for other reasons, others could not be either."""

OF_A_GPU = re.compile(
    r'(CUDA|HIP|CUDA driver) error|Triton Error \[(CUDA|HIP)\]'
    r'|CUDNN_STATUS_(EXECUTION_FAILED|INTERNAL_ERROR|MAPPING_ERROR)'
)
"""What PyTorch and Triton say when one no longer answers; that it has no memory left is another."""

T, R = TypeVar('T'), TypeVar('R')


def outcomes(
    call: Callable[[Sequence[T]], Sequence[R]], items: Sequence[T]
) -> Iterator[tuple[T, R | Exception]]:
    """What `call` makes of each item, or why nothing; where many fail, each is tried alone.

    Raises:
        Exception: One that is not of an item, see `raise_others`.
    """
    found = _attempt(call, items)
    if not isinstance(found, Exception):
        yield from zip(items, found, strict=True)
    elif len(items) == 1:
        yield items[0], found
    else:
        for item in items:
            yield from outcomes(call, [item])


def _attempt(
    call: Callable[[Sequence[T]], Sequence[R]], items: Sequence[T]
) -> Sequence[R] | Exception:
    try:
        return call(items)
    except Exception as error:
        raise_others(error)
        return error.with_traceback(None)  # whose frames would keep the memory of a batch


def raise_others(error: Exception) -> None:
    """Raise an error that other images would meet, too.

    These are a GPU that no longer answers, and a disk that is full or cannot be written. With
    ``MMSEG_SIGLIP_TRACEBACK=1`` it is every error.
    """
    of_the_disk = isinstance(error, OSError) and error.errno not in OF_A_NAME
    of_a_gpu = OF_A_GPU.search(str(error))
    if os.environ.get(TRACEBACK_VARIABLE) == '1' or of_the_disk or of_a_gpu:
        raise error

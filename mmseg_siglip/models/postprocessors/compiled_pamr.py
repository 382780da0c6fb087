"""PAMR by a few C loops that the machine's own compiler makes into code, where there is one.

What torch does neighbour by neighbour and iteration by iteration through the whole picture, they do
for some rows of all iterations, which the cache holds. Nothing is kept on disk: a process compiles
once, into a folder that is gone again when the code is in memory.
"""

from __future__ import annotations

import ctypes
import logging
import os
import shlex
import subprocess
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from shutil import which
from tempfile import TemporaryDirectory

import torch
from mmengine.logging import print_log
from torch import Tensor
from torch.nn.functional import pad

SOURCE = Path(__file__).with_name('pamr.c')
COMPILERS = ('cc', 'gcc', 'clang')
BLOCK = 16
"""Pixels whose affinities are beside each other, a multiple of 8."""
FLAGS = (
    *('-O3', '-march=native', '-fno-math-errno', '-fno-trapping-math', f'-DBLOCK={BLOCK}'),
    *('-shared', '-fPIC'),
)
PATIENCE = 60
TOGETHER = 4
"""Channels that a thread refines at once: as many as `SOURCE` sums up in registers."""
CACHE_LINE = 16
"""Its floats."""
BANDS = 4
"""Parts of a picture's rows for each thread."""


@cache
def library() -> ctypes.CDLL | None:
    """The loops, compiled when first asked for; None, after a warning that says why, without."""
    try:
        return compile_loops()
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        _warn('loops', getattr(error, 'stderr', None) or str(error))
        return None


@cache
def triton_kernel(device: torch.device) -> Callable | None:
    """`iterate_by_triton`, tried on one pixel; None, after a warning that says why, where it does
    not run."""
    try:
        from mmseg_siglip.models.postprocessors.triton_pamr import iterate_by_triton

        pixel = torch.ones(1, 1, 1, 1, device=device)
        iterate_by_triton(pixel, pixel.expand(1, 8, 1, 1) / 8, (1,), 1)
        if device.type == 'cuda':
            torch.cuda.synchronize(device)
    except Exception as error:  # Triton's own are of no common kind
        _warn('kernel', f'{type(error).__name__}: {error}')
        return None
    return iterate_by_triton


def _warn(what: str, said: str) -> None:
    print_log(
        f'PAMR runs without its compiled {what}, slower: {" ".join(said.split())[:300]}',
        'current',
        logging.WARNING,
    )


def compile_loops() -> ctypes.CDLL:
    """Compile `SOURCE` by ``$CC``, else the first of `COMPILERS` that there is.

    Raises:
        ValueError: There is no compiler.
        OSError: It cannot be started, or what it made cannot be loaded.
        subprocess.SubprocessError: It fails, or takes more than a minute.
    """
    chosen = os.environ.get('CC') or next(filter(which, COMPILERS), None)
    if chosen is None:
        raise ValueError(f'no C compiler is found ({", ".join(COMPILERS)})')
    with TemporaryDirectory(prefix='mmseg_siglip_') as folder:
        made = Path(folder) / 'pamr.so'
        command = [*shlex.split(chosen), *FLAGS, '-o', str(made), str(SOURCE), '-lm']
        subprocess.run(command, capture_output=True, text=True, check=True, timeout=PATIENCE)
        return ctypes.CDLL(str(made))


def refine_compiled(
    images: Tensor, logits: Tensor, dilations: Sequence[int], num_iter: int
) -> Tensor | None:
    """PAMR on a CPU, in float32, by as many threads as torch has.

    Args:
        images: (B, 3, H, W).
        logits: (B, C, H, W).
        dilations: Distances of the neighbours, in pixels.
        num_iter: Repetitions.

    Returns:
        (B, C, H, W), or None if the loops cannot be compiled.
    """
    loops = library()
    if loops is None:
        return None
    refined = logits.detach().float().clone(memory_format=torch.contiguous_format)
    threads = torch.get_num_threads()
    with ThreadPoolExecutor(threads) as pool:
        for image, channels in zip(images.detach().float(), refined, strict=True):
            weights = compiled_affinity(loops, pool, image, dilations)
            _iterate(loops, pool, weights, channels, dilations, num_iter)
    return refined


def compiled_affinity(
    loops: ctypes.CDLL, pool: ThreadPoolExecutor, image: Tensor, dilations: Sequence[int]
) -> Tensor:
    """`affinity` of an image (3, H, W): (H, blocks of W, P, BLOCK), sums to 1 over P."""
    _, height, width = image.shape
    reach, pitch, blocks = _layout(width, dilations)
    padded = pad(image[None], (reach, pitch - width - reach, 0, 0), mode='replicate').contiguous()
    weights = torch.empty(
        height, blocks, 8 * len(dilations), BLOCK, dtype=torch.float32, device='cpu'
    )
    sizes = height, reach, pitch, blocks

    def band(rows: Tensor) -> None:
        first, last = int(rows[0]), int(rows[-1]) + 1
        _call(loops.pamr_affinity, padded, weights, _longs(dilations), *sizes, first, last)

    bands = torch.arange(height).tensor_split(min(height, BANDS * torch.get_num_threads()))
    _each(pool, band, bands)
    return weights


def _iterate(
    loops: ctypes.CDLL,
    pool: ThreadPoolExecutor,
    weights: Tensor,
    logits: Tensor,
    dilations: Sequence[int],
    num_iter: int,
) -> None:
    channels, height, width = logits.shape
    reach, pitch, blocks = _layout(width, dilations)

    def part(values: Tensor) -> None:
        scratch = torch.empty(2, len(values), height, pitch, dtype=torch.float32, device='cpu')
        sizes = num_iter, len(values), height, width, reach, pitch, blocks
        _call(loops.pamr_refine, values, scratch, weights, _longs(dilations), *sizes)

    count = max(-(-channels // TOGETHER), min(channels, torch.get_num_threads()))
    _each(pool, part, logits.tensor_split(max(count, 1)))


def _each(
    pool: ThreadPoolExecutor, function: Callable[[Tensor], None], parts: Iterable[Tensor]
) -> None:
    for done in [pool.submit(function, part) for part in parts]:
        done.result()


def _call(function: Callable, *arguments: Tensor | Sequence[int] | int) -> None:
    """Tensors go as addresses, a sequence with its length."""
    given: list = []
    for argument in arguments:
        if isinstance(argument, Tensor):
            given.append(ctypes.c_void_p(argument.data_ptr()))
        elif isinstance(argument, int):
            given.append(ctypes.c_long(argument))
        else:
            given += [argument, ctypes.c_long(len(argument))]
    function(*given)


def _longs(values: Sequence[int]) -> Sequence[int]:
    return (ctypes.c_long * len(values))(*values)


def _layout(width: int, dilations: Sequence[int]) -> tuple[int, int, int]:
    """Floats of border beside a row, floats from row to row, and blocks in it.

    A row is an odd number of the cache's lines, so that few of one pixel's neighbours share a set
    of it.
    """
    reach, blocks = max(dilations), -(-width // BLOCK)
    lines = -(-(BLOCK * blocks + 2 * reach) // CACHE_LINE)
    return reach, CACHE_LINE * (lines | 1), blocks

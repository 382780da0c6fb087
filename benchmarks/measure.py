"""What every benchmark needs: time, peak memory, the machine's own rates, tables.

Times are the best of several runs, so that another process on the machine does little harm. Memory
is Linux's high-water mark of this process above what it held before, freed memory handed back.
"""

from __future__ import annotations

import csv
import ctypes
import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch


@dataclass(frozen=True)
class Measurement:
    """What a call returned, its best time in seconds, and its peak memory in bytes."""

    result: Any
    seconds: float
    peak: int


def measure(call: Callable[[], Any], *, repeat: int = 1) -> Measurement:
    """Run `call` `repeat` times; memory is that of the first."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    before = resident()
    Path('/proc/self/clear_refs').write_text('5')
    started = time.perf_counter()
    result = call()
    seconds = time.perf_counter() - started
    peak = max(high_water() - before, 0)
    for _ in range(repeat - 1):
        started = time.perf_counter()
        call()
        seconds = min(seconds, time.perf_counter() - started)
    return Measurement(result, seconds, peak)


def resident() -> int:
    return _status('VmRSS')


def high_water() -> int:
    return _status('VmHWM')


def _status(field: str) -> int:
    for line in Path('/proc/self/status').read_text().splitlines():
        if line.startswith(f'{field}:'):
            return int(line.split()[1]) * 1024
    raise ValueError(f'/proc/self/status: expected a line {field}, found none')


@dataclass(frozen=True)
class Rates:
    """What this machine does at its best, with torch's current number of threads.

    Attributes:
        fp32: Operations a second of a float32 matrix product, two for a multiply-add.
        bf16: The same in bfloat16.
        copy: Bytes a second of a large copy, those read and those written.
    """

    fp32: float
    bf16: float
    copy: float

    @classmethod
    def of_this_machine(cls, side: int = 2048) -> Rates:
        def matmul(dtype: torch.dtype) -> float:
            a, b = torch.randn(2, side, side).to(dtype)
            return 2 * side**3 / measure(lambda: a @ b, repeat=6).seconds

        source = torch.ones(2**26)
        target = torch.empty_like(source)
        copy = 2 * source.nbytes / measure(lambda: target.copy_(source), repeat=6).seconds
        return cls(matmul(torch.float32), matmul(torch.bfloat16), copy)

    def __str__(self) -> str:
        return (
            f'{self.fp32 / 1e9:.0f} GFLOP/s in float32, {self.bf16 / 1e9:.0f} in bfloat16, '
            f'copies {self.copy / 1e9:.1f} GB/s'
        )


def markdown(rows: Sequence[dict]) -> str:
    """A table with the keys of the first row as its head; numbers to three digits."""
    head = list(rows[0])
    lines = ['| ' + ' | '.join(head) + ' |', '|---' + '|--:' * (len(head) - 1) + '|']
    for row in rows:
        lines.append('| ' + ' | '.join(_cell(row.get(name, '')) for name in head) + ' |')
    return '\n'.join(lines)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f'{value:.0f}' if abs(value) >= 100 else f'{value:.3g}'
    return str(value)


def write_csv(rows: Sequence[dict], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open('w', newline='') as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)

"""What every benchmark needs: time, peak memory, the machine's own rates, tables.

Times are the best of several runs, so that another process on the machine does little harm. Memory
is Linux's high-water mark of this process above what it held before, freed memory handed back.
"""

from __future__ import annotations

import ctypes
import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mmseg_siglip.io.files import write_csv as write_csv  # for the benchmarks


@dataclass(frozen=True)
class Measurement:
    """What a call cost.

    Attributes:
        result: What it returned.
        seconds: Its best time.
        cpu: Its best processor time, all threads together: a busy machine hardly changes it.
        peak: Most bytes that it had at once, above `held`.
        held: Bytes that the process had before.
    """

    result: Any
    seconds: float
    cpu: float
    peak: int
    held: int


def measure(call: Callable[[], Any], *, repeat: int = 1) -> Measurement:
    """Run `call` `repeat` times; memory is that of the first."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    held = resident()
    Path('/proc/self/clear_refs').write_text('5')
    result, seconds, cpu = _timed(call)
    peak = max(high_water() - held, 0)
    for _ in range(repeat - 1):
        _, again, again_cpu = _timed(call)
        seconds, cpu = min(seconds, again), min(cpu, again_cpu)
    return Measurement(result, seconds, cpu, peak, held)


def _timed(call: Callable[[], Any]) -> tuple[Any, float, float]:
    started, started_cpu = time.perf_counter(), time.process_time()
    result = call()
    return result, time.perf_counter() - started, time.process_time() - started_cpu


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
            found = measure(lambda: a @ b, repeat=6)
            return 2 * side**3 / min(found.seconds, found.cpu / torch.get_num_threads())

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

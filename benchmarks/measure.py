"""What every benchmark needs: time, peak memory, the machine's kind and rates, tables.

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
from mmseg_siglip.precision import compute_dtype, cpu_kind

CPU = torch.device('cpu')


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


def machine() -> str:
    """What figures are of, as far as they depend on it."""
    return f'{torch.get_num_threads()} threads, {cpu_kind()} CPU'


@dataclass(frozen=True)
class Rates:
    """What this machine does at its best, with torch's current number of threads.

    Attributes:
        fp32: Operations a second of a float32 matrix product, two for a multiply-add.
        auto: The same in the format that is the fastest here.
        copy: Bytes a second of a large copy, those read and those written.
    """

    fp32: float
    auto: float
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
        fp32, fast = matmul(torch.float32), compute_dtype('auto', CPU)
        return cls(fp32, fp32 if fast == torch.float32 else matmul(fast), copy)

    def of(self, precision: str) -> float:
        """That of products in `precision`."""
        return self.fp32 if compute_dtype(precision, CPU) == torch.float32 else self.auto

    def __str__(self) -> str:
        rates = f'{self.fp32 / 1e9:.0f} GFLOP/s in float32'
        if self.auto != self.fp32:
            rates += f', {self.auto / 1e9:.0f} in bfloat16'
        return f'{rates}, copies {self.copy / 1e9:.1f} GB/s'


def report(rows: Sequence[dict]) -> None:
    """Print the finished table under what machine it is of."""
    print(f'\n{machine()}\n\n{markdown(rows)}')


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

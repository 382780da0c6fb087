"""PAMR's ways against each other and against its floors, in one run.

    python benchmarks/pamr.py

10 iterations, dilations 8 and 16, on a picture of 448 x 597 pixels. Ways take turns, so that what
else the machine does meets both; a time is the best of several. The floor of operations is 32 for a
value and an iteration over the measured rate of matrix products; that of bytes, reading and writing
all logits and reading the affinities once, over the measured rate of copies.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from measure import Measurement, Rates, measure, report, write_csv

from mmseg_siglip.models.postprocessors import PAMRPostProcessor
from mmseg_siglip.models.postprocessors.compiled_pamr import library

SIZE = 448, 597
NUM_ITER, DILATIONS = 10, (8, 16)
NEIGHBOURS = 8 * len(DILATIONS)


def best(runs: Sequence[Measurement]) -> Measurement:
    """The best time, the best processor time and the least memory."""
    seconds, cpu = min(run.seconds for run in runs), min(run.cpu for run in runs)
    return Measurement(runs[0].result, seconds, cpu, min(run.peak for run in runs), runs[0].held)


def compare(channels: int, rates: Rates, repeat: int) -> dict:
    """torch's way and the loops' on the same picture."""
    images, logits = torch.rand(1, 3, *SIZE), torch.randn(1, channels, *SIZE)
    options = dict(num_iter=NUM_ITER, dilations=DILATIONS)
    ways = [PAMRPostProcessor(compiled=flag, **options) for flag in (False, True)]
    runs = [[measure(lambda w=way: w(images, logits)) for way in ways] for _ in range(repeat)]
    plain, loops = (best(of) for of in zip(*runs, strict=True))
    pixels = SIZE[0] * SIZE[1]
    moved = 4 * (2 * channels + NEIGHBOURS) * pixels
    return {
        'channels': channels,
        'threads': torch.get_num_threads(),
        'torch s': plain.seconds,
        'compiled s': loops.seconds,
        'times faster': plain.seconds / loops.seconds,
        'in cpu time': plain.cpu / loops.cpu,
        'floor of bytes s': moved / rates.copy,
        'floor of operations s': 2 * NUM_ITER * NEIGHBOURS * channels * pixels / rates.fp32,
        'torch MB': plain.peak / 2**20,
        'compiled MB': loops.peak / 2**20,
        'difference': f'{float((plain.result - loops.result).abs().max()):.0e}',
    }


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--channels', type=int, nargs='+', default=[8, 21, 171])
    parser.add_argument('--threads', type=int, nargs='+', default=[1, 2])
    parser.add_argument('--repeat', type=int, default=3)
    parser.add_argument('--out', type=Path, default=Path('work_dirs/bench/pamr.csv'))
    args = parser.parse_args(argv)

    torch.manual_seed(0)
    if library() is None:
        parser.error('expected a C compiler, found none that works')
    rows = []
    for threads in args.threads:
        torch.set_num_threads(threads)
        rates = Rates.of_this_machine(side=1024)
        print(f'{threads} threads: {rates}', flush=True)
        rows += [compare(channels, rates, args.repeat) for channels in args.channels]
    write_csv(rows, args.out)
    report(rows)


if __name__ == '__main__':
    main()

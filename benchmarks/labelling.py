"""Labelling by one process, by two, by two ranks and by Ray: equal rows, and how many a second.

    python benchmarks/labelling.py                              # 20 000 images in 100 tars
    python benchmarks/labelling.py --images 2000 --shards 100
    python benchmarks/labelling.py --driver                     # memory of the driver alone

Scenes of ShapesWorld of 64 x 96 pixels, the SigLIP that ships along, float32; a worker has one
thread of PyTorch, and others that decode and encode. Rates are between the first and the last
table, so without starts; busy cores are processor time over wall time, starts included, of Ray the
driver's alone. Two runs apart, of half of the tars each, know nothing of each other: they are what
the machine gives to two processes, whoever hands out the work.
"""

from __future__ import annotations

import argparse
import io
import os
import resource
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow.parquet as pq
from measure import cpu_kind
from PIL import Image

from mmseg_siglip.datasets.shapes_world.scene import generate, scene_seed
from mmseg_siglip.labelling.drive import Drive, ShardTurns
from mmseg_siglip.labelling.listing import Listing
from mmseg_siglip.labelling.objects import ShardStore
from mmseg_siglip.labelling.process import Ready, Replied
from mmseg_siglip.labelling.work import Hello, Task

LABEL = [sys.executable, '-m', 'mmseg_siglip', 'label']
OPTIONS = '--vocabulary shapes --encoder tiny_siglip_shapes --templates single --precision fp32'
APART = 'two runs apart'
RUNS = {
    'one process': [['--workers', '1']],
    APART: [],
    'two processes': [['--workers', '2']],
    'two ranks': [['--launcher', 'pytorch']] * 2,
    'Ray, two actors': [['--engine', 'ray', '--workers', '2']],
}
SHARDS = (10**4, 10**5, 10**6)


def write_tars(folder: Path, images: int, shards: int) -> tuple[str, tuple[str, str]]:
    """Scenes as PNG in tars; returns the pattern that names them, and those of both halves."""
    for shard in range(shards):
        with tarfile.open(folder / f's-{shard:05d}.tar', 'w') as tar:
            for index in range(shard, images, shards):
                file = io.BytesIO()
                Image.fromarray(generate(scene_seed('test', index), size=(64, 96)).image).save(
                    file, 'PNG'
                )
                info = tarfile.TarInfo(f'{index:06d}.png')
                info.size = file.tell()
                file.seek(0)
                tar.addfile(info, file)
    half = shards // 2
    whole, *halves = (
        f'{folder}/s-{{{first:05d}..{last - 1:05d}}}.tar'
        for first, last in ((0, shards), (0, half), (half, shards))
    )
    return whole, tuple(halves)


def labelled(images: str, out: Path, ranks: Sequence[Sequence[str]]) -> None:
    """Run the command, as often as there are ranks."""
    running = []
    for rank, options in enumerate(ranks):
        numbers = dict(RANK=rank, LOCAL_RANK=rank, WORLD_SIZE=len(ranks))
        variables = {name: str(value) for name, value in numbers.items()} if len(ranks) > 1 else {}
        running.append(start(images, out, options, **variables))
    wait_for(running)


def labelled_apart(halves: Sequence[str], outs: Sequence[Path]) -> None:
    """Run the command for each half at the same time."""
    wait_for([start(*pair, ['--workers', '1']) for pair in zip(halves, outs, strict=True)])


def start(images: str, out: Path, options: Sequence[str], **variables: str) -> subprocess.Popen:
    argv = [*LABEL, images, '--out', str(out), *OPTIONS.split(), '--format', 'parquet', *options]
    environment = dict(os.environ, OMP_NUM_THREADS='1', **variables)
    return subprocess.Popen(argv, env=environment, stderr=subprocess.DEVNULL)


def wait_for(running: Sequence[subprocess.Popen]) -> None:
    ends = [process.wait() for process in running]
    if any(ends):
        raise RuntimeError(f'{running[0].args} ended badly')


def rows_in(outs: Sequence[Path]) -> dict[str, bytes]:
    """Label maps by name.

    Raises:
        RuntimeError: An image is there twice.
    """
    paths = [path for out in outs for path in objects(out)]
    tables = [pq.read_table(path, columns=['name', 'png']) for path in paths]
    pairs = [(row['name'], row['png']) for table in tables for row in table.to_pylist()]
    if len(dict(pairs)) != len(pairs):
        raise RuntimeError(f'{outs}: an image is there twice')
    return dict(pairs)


def objects(out: Path) -> list[Path]:
    return sorted((out / 'shards').glob('*.parquet'))


def rate_in(out: Path, images: int) -> float:
    """Images a second between the first and the last table."""
    times = sorted(path.stat().st_mtime for path in objects(out))
    return images * (len(times) - 1) / len(times) / (times[-1] - times[0])


def processor_time() -> float:
    """Seconds of all processes that this one has started and that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def compare(images: int, shards: int) -> None:
    print(f'{cpu_kind()}, {os.cpu_count()} cores; {images} images in {shards} shards')
    print('| run | rows | equal | images a second | to one process | busy cores | wall s |')
    print('|---|--:|---|--:|--:|--:|--:|')
    with tempfile.TemporaryDirectory() as folder:
        (pattern, halves), first = write_tars(Path(folder), images, shards), None
        for name, ranks in RUNS.items():
            out = Path(folder, name.replace(' ', '_').replace(',', ''))
            outs = [out / 'a', out / 'b'] if name == APART else [out]
            began, used = time.perf_counter(), processor_time()
            if name == APART:
                labelled_apart(halves, outs)
            else:
                labelled(pattern, out, ranks)
            seconds, used = time.perf_counter() - began, processor_time() - used
            rows = rows_in(outs)
            rate = sum(rate_in(out, images // len(outs)) for out in outs)
            first = first or (rows, rate)
            print(
                f'| {name} | {len(rows)} | {"yes" if rows == first[0] else "NO"} | {rate:.1f} | '
                f'{rate / first[1]:.2f} | {used / seconds:.2f} | {seconds:.0f} |',
                flush=True,
            )


class Instant:
    """A pool that has labelled at once: of a shard there is an empty object."""

    def __init__(self, store: ShardStore) -> None:
        self.store = store

    def start(self) -> None:
        self.events = [(0, Ready(Hello({}, {})))]

    def submit(self, worker: int, task: Task) -> None:
        Path(self.store.path(task.shard.name)).touch()
        self.events = [(worker, Replied(1))]

    def wait(self) -> list:
        return self.events

    def close(self) -> None:
        pass


def drive_alone(shards: int) -> None:
    """Hand out that many shards; print the growth of this process, MB, and what goes on after that
    finds them all there."""
    os.path.isfile = lambda path: True  # the tars are not looked at
    with tempfile.TemporaryDirectory() as folder:
        store = ShardStore(folder)
        Path(store.path('')).parent.mkdir(exist_ok=True)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for expected in (shards, 0):
            listing = Listing([f's-{{0000000..{shards - 1:07d}}}.tar'])
            total = Drive(ShardTurns(listing, store), Instant(store), store).run()
            if total.shards != expected:
                raise RuntimeError(f'{total.shards} shards were handed out, not {expected}')
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(f'{shards} {grown / 1024:.0f}')


def growth() -> Iterator[str]:
    for shards in SHARDS:
        argv = [sys.executable, __file__, '--drive', str(shards)]
        found = subprocess.run(argv, capture_output=True, text=True, check=True).stdout.split()
        yield f'| {found[0]} | {found[1]} |'


if __name__ == '__main__':
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--images', type=int, default=20_000, help='[%(default)s]')
    parser.add_argument('--shards', type=int, default=100, help='[%(default)s]')
    parser.add_argument('--driver', action='store_true', help='measure its memory instead')
    parser.add_argument('--drive', type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.drive:
        drive_alone(args.drive)
    elif args.driver:
        print('| shards | growth of the driver, MB |\n|--:|--:|', *growth(), sep='\n')
    else:
        compare(args.images, args.shards)

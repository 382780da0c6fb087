"""Kill real runs at random moments, start them again, and count what is lost.

    python tests/kills.py                          # 20 kills of each job; or: make kill-test
    python tests/kills.py --kills 3 --jobs test

Of each run the first process gets SIGKILL; nobody of its family, but Ray's own agents, may be there
a little later. After the last kill a run is left to end. Then everything that was there before some
kill must be there untouched, once, and the end must be that of a run that nobody killed.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import random
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from PIL import Image

from mmseg_siglip.datasets.shapes_world.scene import generate, scene_seed
from mmseg_siglip.engine.kept_results import FOLDER, KEYS
from mmseg_siglip.io.journal import read_lines

ROOT = Path(__file__).resolve().parents[1]
FAMILY_SECONDS = 30  # in which all others of a killed run end, on a busy machine
START_SECONDS = 20  # in which a run begins to work
SPARE = 4  # parts of a run's way, as many as kills and these, that are left in the end
LAST = 'iter_{}.pth'
RAYS_OWN = ('ray::DashboardAgent', 'ray::RuntimeEnvAgent', 'dashboard/agent.py', 'agent/main.py')
"""Titles and scripts of what ends a minute or two after Ray, by itself, and computes nothing."""

Done = Counter[str]
"""How often each part of a job is done."""


@dataclass
class Job:
    """One kind of run.

    Attributes:
        command: From the folder to fill and the number of the start to a command.
        done: What is done in a folder.
        marks: What changes if something that is done is done again, by its name.
        result: What must be equal in the end.
        parts: How many parts are done in the end.
    """

    command: Callable[[Path, int], Sequence[str]]
    done: Callable[[Path], Done]
    marks: Callable[[Path], dict[str, Any]]
    result: Callable[[Path], Any]
    parts: int


@dataclass
class Figures:
    """What kills did."""

    kills: int = 0
    lost: int = 0
    twice: int = 0
    alive: int = 0
    equal: bool = False
    done_at: list[int] = field(default_factory=list)

    @property
    def good(self) -> bool:
        return self.equal and not (self.lost or self.twice or self.alive)


def start(command: Sequence[str], errors: Path) -> subprocess.Popen:
    variables = dict(os.environ, PYTHON=sys.executable, OMP_NUM_THREADS='1', PYTHONPATH=str(ROOT))
    for name in ('RANK', 'LOCAL_RANK', 'WORLD_SIZE'):
        variables.pop(name, None)
    with errors.open('w') as file:
        return subprocess.Popen(
            list(map(str, command)), cwd=ROOT, env=variables, stdout=subprocess.DEVNULL, stderr=file
        )


def finish(command: Sequence[str], errors: Path) -> None:
    """Run to the end.

    Raises:
        RuntimeError: It does not end well.
    """
    if start(command, errors).wait():
        raise RuntimeError(f'{" ".join(map(str, command))} ended badly:\n{tail(errors)}')


def tail(errors: Path) -> str:
    return errors.read_text(errors='replace')[-3000:]


def family(pid: int) -> set[int]:
    """A process and its descendants."""
    try:
        children = Path(f'/proc/{pid}/task/{pid}/children').read_text().split()
    except (FileNotFoundError, ProcessLookupError):
        return set()
    return {pid}.union(*(family(int(child)) for child in children))


def runs(pid: int) -> bool:
    """Whether a process is there that is not `RAYS_OWN`."""
    try:
        ended = Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0] == 'Z'
        words = Path(f'/proc/{pid}/cmdline').read_text(errors='replace')
    except (FileNotFoundError, ProcessLookupError):
        return False
    return not ended and not any(name in words for name in RAYS_OWN)


def wait_for(condition: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)


def kill(process: subprocess.Popen) -> int:
    """SIGKILL for a process; how many of its family are there a little later."""
    pids = family(process.pid)
    process.send_signal(signal.SIGKILL)
    process.wait()
    wait_for(lambda: not any(map(runs, pids)), FAMILY_SECONDS)
    left = [pid for pid in pids if runs(pid)]
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    return len(left)


def has_done(job: Job, out: Path, process: subprocess.Popen, goal: int) -> bool:
    """Whether so much is done, or a run has ended."""
    return job.done(out).total() >= goal or process.poll() is not None


def killed_often(job: Job, folder: Path, kills: int, chance: random.Random) -> Figures:
    """Kill a job that often, let it end, and compare it with one that nobody killed."""
    figures, seen = Figures(), {}
    whole, out, errors = folder / 'whole', folder / 'killed', folder / 'errors'
    finish(job.command(whole, 0), errors)
    for number in range(kills):
        before = job.done(out).total()
        goal = int((number + chance.random()) * job.parts / (kills + SPARE))
        process = start(job.command(out, number), errors)
        reached = partial(has_done, job, out, process, max(goal, before + 1))
        wait_for(reached, chance.uniform(0, START_SECONDS) if goal <= before else float('inf'))
        time.sleep(chance.uniform(0, 0.3))
        if process.poll() is not None:
            raise RuntimeError(f'a run ended by itself, by {process.returncode}:\n{tail(errors)}')
        figures.alive += kill(process)
        figures.kills += 1
        figures.done_at.append(job.done(out).total())
        seen = job.marks(out) | seen  # as each was when it was seen first
    finish(job.command(out, kills), errors)
    done, marks = job.done(out), job.marks(out)
    figures.lost = job.parts - len(done) + len(seen.keys() - marks.keys())
    figures.twice = done.total() - len(done)
    figures.twice += sum(marks.get(name, mark) != mark for name, mark in seen.items())
    figures.equal = job.result(out) == job.result(whole)
    return figures


def stamp(path: Path) -> tuple[int, int]:
    """What changes when a file is written again."""
    status = path.stat()
    return status.st_ino, status.st_mtime_ns


def lines(folder: Path, keys: set[str]) -> list[dict]:
    return [
        record
        for path in sorted(folder.glob('journal/*.jsonl'))
        for _, record in read_lines(path, keys)
    ]


def write_scenes(folder: Path, count: int, shards: int) -> str:
    """Scenes as JPEGs in a folder or in tar shards; returns what names them."""
    folder.mkdir()
    tars = [tarfile.open(folder / f'shard-{number:03d}.tar', 'w') for number in range(shards)]
    for index in range(count):
        buffer = io.BytesIO()
        scene = generate(scene_seed('test', index), size=(64, 96))
        Image.fromarray(scene.image).save(buffer, 'JPEG', quality=95)
        if not tars:
            (folder / f'{index:06d}.jpg').write_bytes(buffer.getvalue())
            continue
        info = tarfile.TarInfo(f'{index:06d}.jpg')
        info.size = buffer.tell()
        buffer.seek(0)
        tars[index % shards].addfile(info, buffer)
    for tar in tars:
        tar.close()
    return str(folder / f'shard-{{000..{shards - 1:03d}}}.tar') if shards else str(folder)


def pixels(file: Path | io.BytesIO) -> list:
    return np.array(Image.open(file)).tolist()


def labelling(form: str, folder: Path, parts: int, *, ray: bool = False) -> Job:
    """Labels of scenes, by one process and by two ranks in turn, or by two of Ray's actors; of tars
    in COCO's format."""
    images = write_scenes(folder / 'images', parts, 20 if form == 'coco' else 0)
    options = '--vocabulary shapes --encoder tiny_siglip_shapes --templates single'.split()
    options += ['--precision', 'fp32', '--batch-size', '2', '--format', form]
    options += ['--shard-size', '10', '--workers', '1']
    if ray:
        options[-1:] = ['2', '--engine', 'ray']
    counted: dict[tuple, list[str]] = {}

    def command(out: Path, number: int) -> list[str]:
        tool = (
            [ROOT / 'tools/dist_predict.sh', '2']
            if number % 2 and not ray
            else [sys.executable, ROOT / 'tools/predict.py']
        )
        return [*tool, images, '--out', out, *options]

    def objects(out: Path) -> dict[str, Path]:
        return {path.stem: path for path in out.glob('shards/[!.]*.parquet')}

    def names(path: Path) -> list[str]:
        key = (path, *stamp(path))
        if key not in counted:
            counted[key] = pq.read_table(path, columns=['name']).column('name').to_pylist()
        return counted[key]

    def done(out: Path) -> Done:
        return Counter(name for path in objects(out).values() for name in names(path))

    def marks(out: Path) -> dict[str, Any]:
        return {name: stamp(path) for name, path in objects(out).items()}

    def result(out: Path) -> dict[str, Any]:
        rows = [row for path in objects(out).values() for row in pq.read_table(path).to_pylist()]
        labels = {row['name']: pixels(io.BytesIO(row['png'])) for row in rows}
        if form == 'coco':
            return dict(labels, coco=json.loads((out / 'labels.json').read_text())['annotations'])
        maps = (out / 'labels').rglob('*.png')
        return dict(labels, maps={path.name: pixels(path) for path in maps})

    return Job(command, done, marks, result, parts)


def evaluation(folder: Path, parts: int) -> Job:
    """A test that saves its predictions."""
    options = [f'test_dataloader.dataset.num_scenes={parts}', 'test_dataloader.num_workers=2']

    def command(out: Path, number: int) -> list[str]:
        tool = [sys.executable, ROOT / 'tools/test.py', ROOT / 'configs/sclip/shapes.py']
        work = ['--work-dir', f'{out}_work_{number}', '--cfg-options', *options]
        return [*tool, '--out', out, '--continue', *work]

    def done(out: Path) -> Done:
        return Counter(str(record['index']) for record in lines(out / FOLDER, KEYS))

    def marks(out: Path) -> dict[str, Any]:
        """Of images that are done, by number as in their names."""
        pictures = sorted(out.glob('*.png'))
        named = {str(int(path.stem.rpartition('_')[2])): path for path in pictures}
        return {name: stamp(named[name]) for name in done(out)}

    def result(out: Path) -> dict[str, Any]:
        logs = sorted(out.parent.glob(f'{out.name}_work_*/*/*.json'), key=os.path.getmtime)
        scores = json.loads([log for log in logs if log.stem == log.parent.name][-1].read_text())
        scores = {name: value for name, value in scores.items() if 'time' not in name}
        return scores | {path.name: path.read_bytes() for path in out.glob('*.png')}

    return Job(command, done, marks, result, parts)


def training(folder: Path, parts: int) -> Job:
    """A training of the depth head; each checkpoint is a part."""
    options = [
        'train_dataloader.batch_size=2',
        'train_dataloader.dataset.size=(32,48)',
        'train_dataloader.dataset.num_scenes=64',
        f'train_cfg.max_iters={2 * parts}',
        f'train_cfg.val_interval={4 * parts}',
        'default_hooks.checkpoint.interval=2',
        'default_hooks.checkpoint.max_keep_ckpts=-1',
        'randomness.seed=7',
        'randomness.deterministic=True',
    ]

    def command(out: Path, number: int) -> list[str]:
        tool = [sys.executable, ROOT / 'tools/train.py', ROOT / 'configs/dpt/shapes_frozen.py']
        return [*tool, '--resume', '--work-dir', out, '--cfg-options', *options]

    def files(out: Path) -> dict[str, Path]:
        return {path.name: path for path in out.glob('iter_*.pth')}

    def done(out: Path) -> Done:
        return Counter([*files(out)])

    def marks(out: Path) -> dict[str, Any]:
        return {name: stamp(path) for name, path in files(out).items()}

    def result(out: Path) -> dict[str, Any]:
        state = torch.load(out / LAST.format(2 * parts), weights_only=True)['state_dict']
        return {name: value.tolist() for name, value in state.items()}

    return Job(command, done, marks, result, parts)


JOBS: dict[str, tuple[Callable[[Path, int], Job], int]] = {
    'label': (lambda folder, parts: labelling('png', folder, parts), 400),
    'label-coco': (lambda folder, parts: labelling('coco', folder, parts), 400),
    'label-ray': (lambda folder, parts: labelling('png', folder, parts, ray=True), 400),
    'test': (evaluation, 400),
    'train': (training, 60),
}
"""Name to a function that makes the job, and its number of parts."""


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--kills', type=int, default=20, help='of each job [%(default)s]')
    parser.add_argument('--seed', type=int, default=0, help='[%(default)s]')
    usual = [name for name in JOBS if name != 'label-ray']
    parser.add_argument(
        '--jobs', nargs='+', choices=JOBS, default=usual, help='[all but label-ray, by Ray]'
    )
    parser.add_argument('--parts', type=int, help="of each job [the job's own]")
    args = parser.parse_args(argv)
    good = True
    print(f'{"job":12} kills  lost  twice  left alive  equal in the end  done at the kills')
    for name in args.jobs:
        make, parts = JOBS[name]
        with tempfile.TemporaryDirectory() as folder:
            job = make(Path(folder), args.parts or parts)
            found = killed_often(job, Path(folder), args.kills, random.Random(args.seed))
        moments = ' '.join(map(str, found.done_at))
        print(
            f'{name:12} {found.kills:5} {found.lost:5} {found.twice:6} {found.alive:11} '
            f'{"yes" if found.equal else "NO":>17}  {moments} of {job.parts}',
            flush=True,
        )
        good &= found.good
    return 0 if good else 1


if __name__ == '__main__':
    sys.exit(main())

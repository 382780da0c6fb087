"""Commands that get a signal while they work: ``python interrupted.py CONFIG FOLDER``.

All run at once, each in a session of its own, forked before anything has started a thread. FOLDER
gets what each said on stderr; printed is, as JSON, its exit status and how many processes of its
session were left.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
from mmengine.config import Config
from PIL import Image

import mmseg_siglip.cli.jobs.test
import mmseg_siglip.cli.jobs.train  # noqa: F401  # once for all processes
from mmseg_siglip.cli.common import leave
from mmseg_siglip.cli.main import main

IMAGES = 400
WORDS = ['--encoder', 'tiny_siglip_shapes', '--templates', 'plain']


def commands(config: str, folder: Path) -> dict[str, tuple[list[str], str]]:
    """What is run, and a pattern of files whose first tells that it works."""
    shapes = str(Path(__file__).parents[2] / 'configs/sclip/shapes.py')
    photographs = str(folder / 'photographs')
    train = ['train', config, '--cfg-options', 'train_cfg.max_iters=100000']
    train += ['train_dataloader.num_workers=2', 'train_dataloader.persistent_workers=True']
    train += ['default_hooks.checkpoint.interval=2', 'default_hooks.checkpoint.max_keep_ckpts=2']
    test = ['test', shapes, '--out', str(folder / 'predictions'), '--cfg-options']
    test += [f'test_dataloader.dataset.num_scenes={IMAGES}', 'test_dataloader.num_workers=2']
    label = ['label', photographs, '--words', 'red, blue', *WORDS]
    label += ['--batch-size', '1', '--shard-size', '2', '--workers', '2']
    return dict(
        train=([*train, '--work-dir', str(folder / 'train')], 'train/iter_4.pth'),
        train_alone=([*train, '--work-dir', str(folder / 'alone')], 'alone/iter_4.pth'),
        test=([*test, '--work-dir', str(folder / 'test')], 'predictions/*.png'),
        segment=(
            ['segment', photographs, 'red, blue', '--out', str(folder / 'segmented'), *WORDS],
            'segmented/*.json',
        ),
        label=([*label, '--out', str(folder / 'labelled')], 'labelled/shards/*.parquet'),
        label_alone=([*label, '--out', str(folder / 'alike')], 'alike/shards/*.parquet'),
    )


def left_of(session: int) -> int:
    """How many processes of a session there are, but for zombies."""
    found = 0
    for file in Path('/proc').glob('[0-9]*/stat'):
        try:
            state, _, _, own = file.read_text().rpartition(')')[2].split()[:4]
        except OSError:
            continue
        found += state != 'Z' and int(own) == session
    return found


def interrupt(name: str, argv: list[str], pattern: str, folder: Path) -> tuple[int, int]:
    """Ctrl-C as a terminal sends it, to all; ``_alone`` SIGTERM to the command alone."""
    child = os.fork()
    if child == 0:
        os.setsid()
        output = os.open(folder / f'{name}.err', os.O_CREAT | os.O_WRONLY)
        os.dup2(output, 1)
        os.dup2(output, 2)
        leave(main(argv))
    deadline = time.monotonic() + 400
    while not next(folder.glob(pattern), None) and time.monotonic() < deadline:
        if os.waitpid(child, os.WNOHANG)[0]:
            return -1, 0
        time.sleep(0.05)
    if name.endswith('_alone'):
        os.kill(child, signal.SIGTERM)
    else:
        os.killpg(child, signal.SIGINT)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return status, left_of(child)


def run_all(config: str, place: str) -> None:
    Config.pretty_text = ''  # it takes longer than the training
    folder = Path(place)
    (folder / 'photographs').mkdir()
    for index in range(IMAGES):
        pixels = np.full((64, 64, 3), index % 256, np.uint8)
        Image.fromarray(pixels).save(folder / 'photographs' / f'{index}.png')
    gc.freeze()
    places = {}
    for name, (argv, pattern) in commands(config, folder).items():
        read, write = os.pipe()
        if os.fork() == 0:
            os.write(write, json.dumps(interrupt(name, argv, pattern, folder)).encode())
            os._exit(0)
        os.close(write)
        places[name] = read
    print(json.dumps({name: json.loads(os.read(read, 99)) for name, read in places.items()}))


if __name__ == '__main__':
    run_all(*sys.argv[1:])

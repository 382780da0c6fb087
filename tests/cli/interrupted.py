"""Commands that get a signal while they work: ``python interrupted.py CONFIG FOLDER``.

All run at once, each in a session of its own, forked before anything has started a thread. FOLDER
gets what each said on stderr; printed is, as JSON, its exit status and which processes of its
session were left.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from mmengine.config import Config
from PIL import Image

import mmseg_siglip.cli.jobs.test
import mmseg_siglip.cli.jobs.train  # noqa: F401  # once for all processes
from mmseg_siglip.cli.common import leave
from mmseg_siglip.cli.main import main

IMAGES = 400
TRACKER, LAST_SECONDS = 'multiprocessing.resource_tracker', 5
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


def left_of(session: int) -> list[str]:
    """What runs in a session, but for zombies.

    Python's own tracker of resources ends when it sees that whoever started it has, for which it
    gets a moment, as does what is ending already and has no command line any more.
    """
    deadline = time.monotonic() + LAST_SECONDS
    while found := list(commands_of(session)):
        others = [command for command in found if command and TRACKER not in command]
        if others or time.monotonic() > deadline:
            break
        time.sleep(0.02)
    return found


def commands_of(session: int) -> Iterator[str]:
    for folder in Path('/proc').glob('[0-9]*'):
        try:
            state, _, _, own = (folder / 'stat').read_text().rpartition(')')[2].split()[:4]
            command = (folder / 'cmdline').read_text().replace('\0', ' ')
        except OSError:
            continue
        if state != 'Z' and int(own) == session:
            yield command


def interrupt(name: str, argv: list[str], pattern: str, folder: Path) -> tuple[int, list[str]]:
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
            return -1, []
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
        places[name] = open(read, 'rb')
    print(json.dumps({name: json.load(file) for name, file in places.items()}))


if __name__ == '__main__':
    run_all(*sys.argv[1:])

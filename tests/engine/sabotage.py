"""Train and die during a save: ``python sabotage.py CONFIG FOLDER POINT...``.

Each point gets a process of its own, forked before anything has started a thread, and works in
FOLDER/POINT. The writes of a training are checkpoint, pointer, checkpoint, pointer, ...
"""

from __future__ import annotations

import gc
import os
import signal
import sys
from pathlib import Path

import matplotlib.pyplot  # noqa: F401  # once for all processes
from mmengine.config import Config

from mmseg_siglip.engine import Runner
from mmseg_siglip.engine.checkpoint_hook import AtomicBackend
from mmseg_siglip.io import files


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def on_call(number, function):
    """Die instead of the call of this number (0 is the first)."""
    calls = iter(range(1000))
    return lambda *args, **kwargs: function(*args, **kwargs) if next(calls) < number else die()


def in_half_a_file():
    write, calls = Path.write_bytes, iter(range(1000))

    def write_half(path, data):
        if next(calls) < 4:
            return write(path, data)
        write(path, data[: len(data) // 2])
        die()

    files.Path.write_bytes = write_half


def before_the_flush():
    files.os.fsync = on_call(4, os.fsync)


def before_the_rename():
    files.os.replace = on_call(4, os.replace)


def before_the_pointer():
    AtomicBackend.put_text = on_call(2, AtomicBackend.put_text)


def before_the_removal():
    AtomicBackend.remove = on_call(1, AtomicBackend.remove)


def main(config: str, folder: str, *points: str) -> None:
    Config.pretty_text = ''  # it takes longer than the training
    gc.freeze()
    for point in points:
        child = os.fork()
        if child == 0:
            cfg = Config.fromfile(config)
            cfg.work_dir = os.path.join(folder, point)
            cfg.default_hooks.checkpoint.max_keep_ckpts = 1
            runner = Runner.from_cfg(cfg)
            globals()[point]()
            runner.train()
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status) or os.WTERMSIG(status) != signal.SIGKILL:
            raise SystemExit(f'{point}: the training was not killed')


if __name__ == '__main__':
    main(*sys.argv[1:])

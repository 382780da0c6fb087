"""A labeller without a model: a row says how bright an image is; some images are trouble.

A file of one byte 0 to 250 is an image of that brightness. At 251 an error is raised, at 252 the
process is killed, at 253 it is killed unless it has no other image; other bytes cannot be decoded.
"""

from __future__ import annotations

import os
import random
import signal
import time
from dataclasses import dataclass

import numpy as np

from mmseg_siglip.labelling.drive import Drive, ShardTurns
from mmseg_siglip.labelling.listing import Listing
from mmseg_siglip.labelling.objects import ShardStore
from mmseg_siglip.labelling.pools import LoopPool, ProcessPool
from mmseg_siglip.labelling.work import WorkerSettings
from mmseg_siglip.later import Later

RAISES, KILLS, KILLS_IN_COMPANY, BROKEN = 251, 252, 253, 255


class Brightness:
    columns = dict(mean='float32')

    def __init__(self, settings, seconds=0.0):
        self.settings, self.seconds = settings, seconds

    def decode(self, data, place):
        if data[0] == BROKEN:
            raise ValueError(f'{place}: cannot be decoded')
        return np.full((2, 3, 3), data[0], np.uint8)

    def begin(self, images):
        return Later.now(self.label(images))

    def label(self, images):
        time.sleep(self.seconds * len(images))
        values = [int(image[0, 0, 0]) for image in images]
        if RAISES in values:
            raise RuntimeError('shapes')
        if KILLS in values or (KILLS_IN_COMPANY in values and len(values) > 1):
            os.kill(os.getpid(), signal.SIGKILL)
        return values

    def rows(self, found):
        return [dict(mean=float(found))]


@dataclass(frozen=True)
class Recipe:
    """Makes a `Brightness`, or fails to."""

    refuse: str = ''
    dies: bool = False
    seconds: float = 0.0
    differs: bool = False

    def __call__(self, number, count):
        if self.refuse:
            raise ValueError(self.refuse)
        if self.dies:
            os._exit(7)
        return Brightness(dict(words='bright', worker=number * self.differs), self.seconds)


def write_images(folder, values):
    """Images of these brightnesses, ``000.png`` and so on; returns the folder as text."""
    folder.mkdir(parents=True, exist_ok=True)
    for index, value in enumerate(values):
        (folder / f'{index:03d}.png').write_bytes(bytes([value]))
    return str(folder)


def rows_of(store, listing):
    """What was found: name to brightness, or to why there is none."""
    return {
        row['name'] or row['path']: row['failure'] if row['failure'] else row['mean']
        for shard in listing.shards()
        for row in store.rows(shard.name)
    }


class Run:
    """Images of these brightnesses, and where their rows go; called, it labels them."""

    def __init__(self, folder, values, *, size=4):
        self.images = write_images(folder / 'images', values)
        self.listing = Listing([self.images], size=size)
        self.out, self.values = str(folder / 'out'), values
        self.store = ShardStore(self.out)

    def settings(self, recipe):
        return WorkerSettings(recipe, self.out, batch_size=2, threads=1)

    def __call__(self, recipe=None, *, workers=0, claim=lambda settings: None, **turns):
        settings = self.settings(recipe or Recipe())
        pool = ProcessPool(settings, workers) if workers else LoopPool(settings)
        told = []
        drive = Drive(
            ShardTurns(self.listing, self.store, **turns),
            pool,
            self.store,
            claim=claim,
            told=told.append,
        )
        total = drive.run()
        self.told = sum(told)
        return total

    def rows(self):
        return rows_of(self.store, self.listing)

    def expected(self):
        return {f'{index:03d}.png': float(value) for index, value in enumerate(self.values)}


class KillsWorkers:
    """Before a pool: kills at a random moment after a worker got a task, `often`, until `most`.

    Attributes:
        most: Kills.
        often: Chance of each task.
        seconds: After a task, at most.
    """

    most: int
    often: float
    seconds: float

    def __init__(self, *args):
        super().__init__(*args)
        self.chance, self.kills = random.Random(0), 0

    def submit(self, worker, task):
        super().submit(worker, task)
        if self.kills < self.most and self.chance.random() < self.often:
            time.sleep(self.chance.uniform(0, self.seconds))
            self.kill(worker)
            self.kills += 1

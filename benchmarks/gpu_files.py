"""Labelling from files to files, as one process of ``mmseg-siglip label`` does it."""

from __future__ import annotations

import io
import os
import tarfile
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image
from torch import Tensor

from mmseg_siglip.api import OpenVocabSegmenter
from mmseg_siglip.labelling.labeller import SystemLabeller
from mmseg_siglip.labelling.listing import Listing
from mmseg_siglip.labelling.objects import ShardStore
from mmseg_siglip.labelling.work import Task, Worker


def labelled_files(
    system: OpenVocabSegmenter,
    words: Sequence[str],
    images: Sequence[Tensor],
    count: int,
    at_once: int,
) -> tuple[float, int]:
    """Seconds that an image takes from a JPEG in a tar to its PNG in a table, and how many did.

    Args:
        system: What labels.
        words: Its classes.
        images: (3, H, W) uint8 each, in the tar again and again.
        count: Members of the tar.
        at_once: Images of a batch.
    """
    threads = max(2, len(os.sched_getaffinity(0)) - 1)
    with TemporaryDirectory() as folder:
        tar = Path(folder, 'images.tar')
        write_jpegs(tar, images, count)
        labeller = SystemLabeller(system, words, settings={})
        worker = Worker(labeller, ShardStore(f'{folder}/out'), None, at_once, threads)
        (shard,) = Listing([str(tar)]).shards()
        started = time.perf_counter()
        done = worker.work(Task(shard))
        return (time.perf_counter() - started) / done, done


def write_jpegs(tar: Path, images: Sequence[Tensor], count: int) -> None:
    """A tar of `count` members, the same images again and again."""
    data = []
    for image in images:
        file = io.BytesIO()
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(file, 'JPEG', quality=95)
        data.append(file.getvalue())
    with tarfile.open(tar, 'w') as out:
        for number in range(count):
            member = tarfile.TarInfo(f'{number:06d}.jpg')
            member.size = len(data[number % len(data)])
            out.addfile(member, io.BytesIO(data[number % len(data)]))

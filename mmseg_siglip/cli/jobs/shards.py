"""A run over shards: who works, what was there, and the form that people want in the end."""

from __future__ import annotations

import argparse
import os
from collections import deque
from itertools import chain
from pathlib import Path
from typing import Any

from tqdm import tqdm

from mmseg_siglip.cli.common import refuse_inside
from mmseg_siglip.io.failures import FAILURES, Failures, write_failures
from mmseg_siglip.io.image_kinds import FORMATS
from mmseg_siglip.labelling.addresses import is_url
from mmseg_siglip.labelling.drive import Drive, ShardTurns, Total
from mmseg_siglip.labelling.exports import NOTHING, export_of
from mmseg_siglip.labelling.labeller import Recipe
from mmseg_siglip.labelling.listing import Listing
from mmseg_siglip.labelling.objects import ShardStore
from mmseg_siglip.labelling.pools import LoopPool, Pool, ProcessPool
from mmseg_siglip.labelling.ranks import place_among
from mmseg_siglip.labelling.work import WorkerSettings

ENGINES = ('process', 'loop', 'ray')


def label_shards(args: argparse.Namespace, task: str, recipe: Recipe, done: str) -> None:
    """Label what is missing of ``args.images`` into ``args.out``, and export it.

    Args:
        args: Of `add_shards`, after `check_shards`.
        task: Key of `EXPORTS`.
        recipe: Makes the workers' labellers.
        done: A word for what has been done to an image.

    Raises:
        ValueError: Nothing could be done at all; or, after all others were done, some images could
            not be.
    """
    form = args.format
    if not is_url(args.out):
        args.out = os.path.expanduser(args.out)
    rank, size, _ = place_among(args.launcher)
    if is_url(args.out) and form != NOTHING:
        raise ValueError(
            f'--out {args.out}: expected a folder, or --format {NOTHING}, of which `mmseg-siglip '
            'export` makes the others'
        )
    if not is_url(args.out):
        refuse_inside(Path(args.out), [image for image in args.images if not is_url(image)])
    listing = Listing(args.images, size=args.shard_size, column=args.column)
    store = ShardStore(args.out)
    if next(listing.shards(), None) is None:
        looked = f'looked for {", ".join(FORMATS)}'
        raise ValueError(f'{" ".join(args.images)}: no images found; {looked}')

    def claim(settings: dict[str, Any]) -> None:
        how = dict(images=listing.roots, shard_size=args.shard_size, column=args.column)
        store.claim(dict(settings, task=task, **how))

    turns = ShardTurns(listing, store, rank=rank, size=size, retry=args.retry_failed)
    of = f' of process 0 of {size}' if size > 1 else ''
    with tqdm(desc=f'images{of}', unit='', delay=0.1, disable=rank != 0) as bar:
        total = Drive(turns, pool_of(args, recipe), store, claim=claim, told=bar.update).run()
    index_shards(args, listing, store, total, done)
    if rank == 0:
        export_tables(store, task, form, None if is_url(args.out) else Path(args.out))


def pool_of(args: argparse.Namespace, recipe: Recipe) -> Pool:
    settings = WorkerSettings(recipe, args.out, args.batch_size, args.num_workers)
    if args.engine == 'loop':
        return LoopPool(settings)
    if args.engine == 'ray':
        from mmseg_siglip.labelling.ray_pool import RayPool

        return RayPool(settings, args.workers, address=args.address)
    alone = place_among(args.launcher)[1] == 1 and args.device is None
    return ProcessPool(settings, args.workers or (alone and count_gpus()) or 1)


def count_gpus() -> int:
    """GPUs of this machine; PyTorch is imported only where there may be one."""
    if not [*Path('/dev').glob('nvidia[0-9]*'), *Path('/dev').glob('kfd')]:
        return 0
    import torch

    return torch.cuda.device_count()


def index_shards(
    args: argparse.Namespace, listing: Listing, store: ShardStore, total: Total, done: str
) -> None:
    """Say what makes up the result, which every process of a run knows; the first prints it."""
    there_now, late = store.done(), []
    names = (shard.name for shard in listing.shards())
    count = store.write_index(name for name in names if name in there_now or late.append(name))
    rank, size, _ = place_among(args.launcher)
    if rank != 0:
        return
    store.remove_drafts()
    if late:
        print(f'{len(late)} shards of images that came in the meantime: the same command goes on')
    if listing.others.count:
        print(listing.others)
    there = f', {total.there} of {count} shards were there already' if total.there else ''
    by = f' by process 0 of {size}' if size > 1 else ''
    print(f'{total.labelled} images {done}{by} into {args.out}{there}')


def export_tables(store: ShardStore, task: str, form: str, folder: Path | None) -> None:
    """Write the form that is asked for, and what failed.

    Raises:
        ValueError: Something failed.
    """
    from mmseg_siglip.labelling.tables import Tables

    tables = Tables(store)
    unwritten = [] if form == NOTHING else export_of(task, form)(tables, folder)
    failures = Failures(chain(tables.failures(), unwritten))
    if folder is None:
        deque(failures, maxlen=0)
        failures.refuse(f'failure in the tables of {store.url}')
    else:
        write_failures(failures, folder / FAILURES)
        failures.refuse(folder / FAILURES)

"""Labels of any number of images, by any number of processes."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as torch_dist
from mmengine.dist import broadcast_object_list, gather_object, get_dist_info
from torch import nn
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from mmseg_siglip.api.load import read_config
from mmseg_siglip.api.segment import OpenVocabSegmenter
from mmseg_siglip.cli.common import one_line, refuse_inside
from mmseg_siglip.cli.segment import build_segmenter
from mmseg_siglip.device import find_device
from mmseg_siglip.engine.processes import start_gloo
from mmseg_siglip.io.files import write_atomically
from mmseg_siglip.io.image import decode_rgb
from mmseg_siglip.io.image_source import Failure, ImageEntry, ImageSource
from mmseg_siglip.io.label_store import STORES, LabelStore
from mmseg_siglip.io.output_folder import OutputFolder, digest_of
from mmseg_siglip.models.guides import all_weights
from mmseg_siglip.text.vocabulary import Vocabulary

FOREVER = timedelta(days=365)  # a process that is done waits for the others while they live
FAILURES = 'failures.jsonl'

T = TypeVar('T')


class Decoding(Dataset):
    """RGB images (H, W, 3) uint8 beside their entries; a `Failure` where there is none.

    Args:
        entries: What to read.
    """

    def __init__(self, entries: Sequence[ImageEntry]) -> None:
        self.entries = entries

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: int) -> tuple[ImageEntry, np.ndarray] | Failure:
        entry = self.entries[index]
        try:
            return entry, decode_rgb(entry.read(), entry.place)
        except OSError as error:
            return Failure(entry.place, error.strerror or one_line(error))
        except ValueError as error:
            return Failure(entry.place, one_line(error).removeprefix(f'{entry.place} '))


def first(function: Callable[[], T]) -> T:
    """What `function` returns in process 0, for all processes; its errors too."""
    box: list = [None, None]
    if get_dist_info()[0] == 0:
        try:
            box[0] = function()
        except (ValueError, OSError) as error:
            box[1] = one_line(error)
    broadcast_object_list(box)
    if box[1] is not None:
        raise ValueError(box[1])
    return box[0]


def share_of(items: Sequence[T], rank: int, size: int) -> Sequence[T]:
    """The consecutive part of `items` for process `rank` of `size`."""
    return items[rank * len(items) // size : (rank + 1) * len(items) // size]


def device_for(name: str | None) -> str:
    """The device of this process: where there are several GPUs, one of its own.

    Raises:
        ValueError: A GPU is asked for, and there is none.
    """
    device = find_device(name)
    if device.type != 'cuda' or device.index is not None:
        return str(device)
    return f'cuda:{int(os.environ.get("LOCAL_RANK", 0)) % torch.cuda.device_count()}'


def weights_digest(module: nn.Module) -> str:
    """Hexadecimal SHA-256 of names and values, second models' included."""
    digest = hashlib.sha256()
    for name, value in sorted(all_weights(module).items()):
        digest.update(f'{name} {tuple(value.shape)} {value.dtype}'.encode())
        digest.update(value.cpu().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def settings_of(
    args: argparse.Namespace,
    source: ImageSource,
    vocabulary: Vocabulary,
    segmenter: OpenVocabSegmenter,
) -> dict[str, Any]:
    """What must not change while a folder is filled, as plain values."""
    return dict(
        words=[', '.join(words) for words in vocabulary.classes],
        encoder=args.encoder,
        weights=weights_digest(segmenter.model),
        config=args.config and read_config(args.config).pretty_text,
        method=args.method,
        templates=args.templates,
        precision=args.precision,
        short_side=segmenter.short_side,
        format=args.format,
        images=list(source.roots),
    )


def label(
    entries: Sequence[ImageEntry],
    segmenter: OpenVocabSegmenter,
    store: LabelStore,
    args: argparse.Namespace,
) -> list[Failure]:
    """Label and store the images; decoding, labelling and writing go side by side."""
    rank, size = get_dist_info()
    loader = DataLoader(
        Decoding(entries),
        batch_size=args.batch_size,
        num_workers=args.num_workers,
        collate_fn=list,
    )
    failures: list[Failure] = []
    of = f' of process 0 of {size}' if size > 1 else ''
    with (
        tqdm(total=len(entries), desc=f'images{of}', disable=rank != 0) as bar,
        ThreadPoolExecutor(1) as writer,
    ):
        writing: list = []
        for batch in loader:
            failures += [item for item in batch if isinstance(item, Failure)]
            images = [item for item in batch if not isinstance(item, Failure)]
            results = segmenter([rgb for _, rgb in images], segmenter.model.vocabulary)
            for task in writing:
                task.result()
            writing = [
                writer.submit(store.write, entry.name, result)
                for (entry, _), result in zip(images, results, strict=True)
            ]
            bar.update(len(batch))
        for task in writing:
            task.result()
    return failures


def write_failures(failures: Sequence[Failure], path: Path) -> None:
    """A JSON line for each, or no file."""
    if not failures:
        path.unlink(missing_ok=True)
        return
    lines = (json.dumps(vars(failure)) for failure in sorted(failures, key=lambda f: f.path))
    write_atomically(''.join(f'{line}\n' for line in lines), path)


def label_all(args: argparse.Namespace) -> None:
    """The whole run, in each of its processes."""
    rank, size = get_dist_info()
    vocabulary = Vocabulary.load(args.vocabulary or args.words.split(','))
    source = first(lambda: ImageSource.open(args.images))
    refuse_inside(args.out, args.images)
    segmenter = build_segmenter(args, device_for(args.device))
    folder, store = OutputFolder(args.out), STORES[args.format](args.out, rank)
    settings = settings_of(args, source, vocabulary, segmenter) if rank == 0 else {}

    def open_folder() -> list[int]:
        folder.claim(settings)
        done = store.done()
        folder.share()
        return [index for index, entry in enumerate(source.entries) if entry.name not in done]

    try:
        missing = first(open_folder)
        folder.share()
        if missing:
            segmenter.use(vocabulary)
            first(lambda: len(segmenter.model.text))  # the others find it in the cache
        mine = [source.entries[index] for index in share_of(missing, rank, size)]
        parts = gather_object(label(mine, segmenter, store, args), dst=0)
        if rank == 0:
            failures = [*source.failures, *(failure for part in parts for failure in part)]
            store.finish(vocabulary.names, dict(settings=digest_of(settings)))
            write_failures(failures, args.out / FAILURES)
    finally:
        folder.close()
    if rank == 0:
        read = len(missing) + len(source.failures) - len(failures)
        print(
            f'{read} images labelled into {args.out}, '
            f'{len(source.entries) - len(missing)} were there already'
        )
        if failures:
            raise ValueError(
                f'{len(failures)} files could not be read, see {args.out / FAILURES}; '
                f'the first is {failures[0].path}: {failures[0].reason}'
            )


def label_images(args: argparse.Namespace) -> None:
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    if args.launcher == 'none':
        return label_all(args)
    start_gloo(args.launcher, FOREVER, args.patience)
    try:
        label_all(args)
    finally:
        torch_dist.destroy_process_group()

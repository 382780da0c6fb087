"""Labels of any number of images, by any number of processes."""

from __future__ import annotations

import argparse
import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as torch_dist
from mmengine.dist import gather_object, get_dist_info
from torch import nn
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from mmseg_siglip.api.load import read_config
from mmseg_siglip.api.segment import OpenVocabSegmenter
from mmseg_siglip.api.segmentation import Segmentation
from mmseg_siglip.cli.common import refuse_inside
from mmseg_siglip.cli.outcomes import outcomes, raise_others
from mmseg_siglip.cli.segment import build_segmenter, words_with_background
from mmseg_siglip.device import find_device
from mmseg_siglip.engine.processes import first, start_gloo
from mmseg_siglip.engine.workers import guarded
from mmseg_siglip.io.failures import FAILURES, Failure, refuse_failures, write_failures
from mmseg_siglip.io.image import decode_rgb
from mmseg_siglip.io.image_folder import NAMED, passed_over
from mmseg_siglip.io.image_source import ImageEntry, ImageSource
from mmseg_siglip.io.label_store import STORES, LabelStore
from mmseg_siglip.io.output_folder import OutputFolder, digest_of
from mmseg_siglip.models.guides import all_weights
from mmseg_siglip.text.vocabulary import Vocabulary

FOREVER = timedelta(days=365)  # a process that is done waits for the others while they live

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
        except Exception as error:
            return Failure.of(entry.place, error)


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
        background=vocabulary.background_index,
        threshold=args.threshold,
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
    loader = guarded(
        DataLoader(
            Decoding(entries),
            batch_size=args.batch_size,
            num_workers=args.num_workers,
            collate_fn=list,
        )
    )

    def predict(images: Sequence[tuple[ImageEntry, np.ndarray]]) -> list[Segmentation]:
        if not images:
            return []
        words, pixels = segmenter.model.vocabulary, [rgb for _, rgb in images]
        return segmenter(pixels, words, threshold=args.threshold)

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
            found = list(outcomes(predict, images))
            failures += filter(None, (task.result() for task in writing))
            writing = [
                writer.submit(keep_labels, store, entry, result) for (entry, _), result in found
            ]
            bar.update(len(batch))
        failures += filter(None, (task.result() for task in writing))
    return failures


def keep_labels(
    store: LabelStore, entry: ImageEntry, result: Segmentation | Exception
) -> Failure | None:
    """Store the labels of an image, or say why there are none."""
    try:
        if isinstance(result, Exception):
            raise result
        store.write(entry.name, result)
    except Exception as error:
        raise_others(error)
        return Failure.of(entry.place, error)


def words_of(args: argparse.Namespace) -> Vocabulary:
    given = args.words if args.vocabulary is None else Vocabulary.load(args.vocabulary)
    return words_with_background(args, given)


def label_all(args: argparse.Namespace) -> None:
    """The whole run, in each of its processes."""
    rank, size = get_dist_info()
    vocabulary = words_of(args)
    source = first(lambda: ImageSource.open(args.images))
    refuse_inside(args.out, args.images)
    if rank == 0 and source.others:
        print(passed_over(source.others))
    entries, failures = source.placed(STORES[args.format].suffixes)
    if not entries:
        raise ValueError(f'no image can be read: {"; ".join(map(str, failures[:NAMED]))}')
    segmenter = build_segmenter(args, device_for(args.device))
    segmenter.use(vocabulary, threshold=args.threshold)
    folder, store = OutputFolder(args.out), STORES[args.format](args.out, rank)
    settings = settings_of(args, source, vocabulary, segmenter) if rank == 0 else {}

    def open_folder() -> list[int]:
        folder.claim(settings)
        done = store.done()
        folder.share()
        return [index for index, entry in enumerate(entries) if entry.name not in done]

    try:
        missing = first(open_folder)
        folder.share()
        if missing:
            first(lambda: len(segmenter.model.text))  # the others find it in the cache
        mine = [entries[index] for index in share_of(missing, rank, size)]
        parts = gather_object(label(mine, segmenter, store, args), dst=0)
        if rank == 0:
            failures += [failure for part in parts for failure in part]
            labelled = len(missing) - sum(map(len, parts))
            store.finish(vocabulary.names, dict(settings=digest_of(settings)))
            write_failures(failures, args.out / FAILURES)
    finally:
        folder.close()
    if rank == 0:
        print(
            f'{labelled} images labelled into {args.out}, '
            f'{len(entries) - len(missing)} were there already'
        )
        refuse_failures(failures, args.out / FAILURES)


def label_images(args: argparse.Namespace) -> None:
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    if args.launcher == 'none':
        return label_all(args)
    start_gloo(args.launcher, FOREVER, args.patience)
    try:
        label_all(args)
    finally:
        torch_dist.destroy_process_group()

"""Depth statistics of folders."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from mmseg_siglip.api.depth import DepthPredictor, metric_predictor
from mmseg_siglip.api.load import read_config
from mmseg_siglip.cli.jobs.label import weights_digest
from mmseg_siglip.cli.outcomes import raise_others
from mmseg_siglip.io.failures import FAILURES, Failure, refuse_failures, write_failures
from mmseg_siglip.io.files import write_atomically
from mmseg_siglip.io.image import decode_depth, decode_rgb
from mmseg_siglip.io.image_folder import passed_over
from mmseg_siglip.io.image_source import ImageEntry, ImageSource
from mmseg_siglip.io.output_folder import OutputFolder
from mmseg_siglip.patch_stats.export import FORMATS, Moments
from mmseg_siglip.patch_stats.statistics import NAMES, SPACES, patch_statistics

SUMMARY = 'summary.json'


def reader(
    args: argparse.Namespace, predictor: DepthPredictor | None
) -> Callable[[ImageEntry], Tensor]:
    """A function from an entry to its depth, (H, W), metres."""
    if predictor is not None:
        return lambda entry: torch.from_numpy(
            predictor(decode_rgb(entry.read(), entry.place)).depth
        )

    def read(entry: ImageEntry) -> Tensor:
        units = decode_depth(entry.read(), entry.place, per_metre=args.depth_scale)
        units[np.isin(units, list(args.invalid))] = 0
        return torch.from_numpy(units.astype(np.float64) / args.depth_scale)

    return read


def kept_settings(
    args: argparse.Namespace, source: ImageSource, predictor: DepthPredictor | None
) -> dict[str, Any]:
    """What must not change while a folder is filled, as plain values."""
    given = {name: value for name, value in vars(args).items() if name not in ('out', 'inputs')}
    found = dict(images=list(source.roots))
    if predictor is not None:
        found['weights'] = weights_digest(predictor.model)
    if args.config:
        found['config'] = read_config(args.config).pretty_text
    return given | found


def export(args: argparse.Namespace) -> None:
    args.stats = args.stats or NAMES
    source = ImageSource.open(args.inputs)
    if source.others:
        print(passed_over(source.others))
    predictor = None
    if args.config or args.model:
        predictor = metric_predictor(args.config, args.checkpoint, published=args.model)
    folder = OutputFolder(args.out)
    folder.claim(kept_settings(args, source, predictor))
    try:
        failures = fill(args, source, predictor)
        write_failures(failures, args.out / FAILURES)
    finally:
        folder.close()
    refuse_failures(failures, args.out / FAILURES)


def fill(
    args: argparse.Namespace, source: ImageSource, predictor: DepthPredictor | None
) -> list[Failure]:
    """Write what is missing, and the summary; what fails for one file fails for that alone."""
    encode, decode = FORMATS[args.format]
    read, moments = reader(args, predictor), Moments(len(args.stats))
    entries, failures = source.placed((f'.{args.format}',))
    begun = len(failures)
    for entry in tqdm(entries, desc='patch statistics', unit='file'):
        target = args.out / f'{entry.name}.{args.format}'
        try:
            if not target.is_file():
                statistics = patch_statistics(
                    read(entry)[None],
                    patch_size=args.patch_size,
                    grid=args.grid and tuple(args.grid),
                    space=args.space,
                    names=tuple(args.stats),
                )
                write_atomically(encode(statistics), target)
            moments.add(decode(target.read_bytes()))
        except Exception as error:
            raise_others(error)
            failures.append(Failure.of(entry.place, error))
    if not moments.number.all() and len(entries) > len(failures) - begun:
        raise ValueError(
            f'{args.out}: expected depth in some patch, found none in any file; what unknown depth '
            'is, --invalid says'
        )
    files = len(entries) - len(failures) + begun
    summary = dict(
        names=list(args.stats),
        space=args.space,
        unit=SPACES[args.space],
        files=files,
        **moments.summary(),
    )
    if files:
        write_atomically(json.dumps(summary, indent=1) + '\n', args.out / SUMMARY)
    print(f'{files} files of statistics and {SUMMARY} in {args.out}')
    return failures

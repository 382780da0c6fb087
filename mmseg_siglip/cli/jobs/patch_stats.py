"""Depth statistics of folders."""

from __future__ import annotations

import argparse
import io
import json
from collections.abc import Callable

import numpy as np
import torch
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from torch import Tensor
from tqdm import tqdm

from mmseg_siglip.api.depth import load_depth_model, predict_depth
from mmseg_siglip.io.image import decode_depth, decode_rgb
from mmseg_siglip.io.image_source import ImageEntry, ImageSource
from mmseg_siglip.io.output_folder import OutputFolder, write_whole
from mmseg_siglip.patch_stats.statistics import (
    NAMES,
    SPACES,
    PatchStatistics,
    patch_statistics,
)
from mmseg_siglip.weights.checkpoint import write_atomically

SUMMARY = 'summary.json'


def metadata(statistics: PatchStatistics) -> dict[str, str]:
    rows, columns = statistics.grid
    return dict(
        names=','.join(statistics.names),
        grid=f'{rows},{columns}',
        space=statistics.space,
        unit=statistics.unit,
    )


def to_npz(statistics: PatchStatistics) -> bytes:
    file = io.BytesIO()
    about = {name: np.array(text) for name, text in metadata(statistics).items()}
    np.savez(file, values=statistics.values[0].numpy(), **about)
    return file.getvalue()


def from_npz(data: bytes) -> Tensor:
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        return torch.from_numpy(arrays['values'])


FORMATS: dict[str, tuple[Callable[[PatchStatistics], bytes], Callable[[bytes], Tensor]]] = {
    'npz': (to_npz, from_npz),
    'safetensors': (
        lambda s: save_safetensors(dict(values=s.values[0].contiguous()), metadata(s)),
        lambda data: load_safetensors(data)['values'],
    ),
}


def reader(args: argparse.Namespace) -> Callable[[ImageEntry], Tensor]:
    """A function from an entry to its depth, (H, W), metres."""
    if args.config:
        model = load_depth_model(args.config, args.checkpoint)
        if model.decode_head.predicts != 'depth':
            raise ValueError(
                f'{args.config}: expected a model of metric depth, found a relative one'
            )
        return lambda entry: torch.from_numpy(
            predict_depth(model, decode_rgb(entry.read(), entry.place))
        )

    def read(entry: ImageEntry) -> Tensor:
        units = decode_depth(entry.read(), entry.place)
        units[np.isin(units, list(args.invalid))] = 0
        return torch.from_numpy(units.astype(np.float64) / args.depth_scale)

    return read


def export(args: argparse.Namespace) -> None:
    args.stats = args.stats or NAMES
    source = ImageSource.open(args.inputs)
    if source.failures:
        raise ValueError(f'{source.failures[0].path}: {source.failures[0].reason}')
    settings = {name: value for name, value in vars(args).items() if name not in ('out', 'inputs')}
    folder = OutputFolder(args.out)
    folder.claim(settings)
    try:
        fill(args, source)
    finally:
        folder.close()


def fill(args: argparse.Namespace, source: ImageSource) -> None:
    encode, decode = FORMATS[args.format]
    read, moments = reader(args), Moments(len(args.stats))
    for entry in tqdm(source.entries, desc='patch statistics', unit='file'):
        target = args.out / f'{entry.name}.{args.format}'
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
    summary = dict(
        names=list(args.stats),
        space=args.space,
        unit=SPACES[args.space],
        files=len(source.entries),
        **moments.summary(),
    )
    write_whole(args.out / SUMMARY, json.dumps(summary, indent=1) + '\n')
    print(f'{len(source.entries)} files of statistics and {SUMMARY} in {args.out}')


class Moments:
    """Mean and standard deviation of each statistic over all patches that have one.

    Args:
        count: K.
    """

    def __init__(self, count: int) -> None:
        self.number, self.total, self.squares = torch.zeros(3, count, dtype=torch.float64)

    def add(self, values: Tensor) -> None:
        """Take in (N, K)."""
        values, finite = values.double(), torch.isfinite(values)
        values = torch.where(finite, values, 0)
        self.number += finite.sum(0)
        self.total += values.sum(0)
        self.squares += (values**2).sum(0)

    def summary(self) -> dict[str, list[float]]:
        """``mean`` and ``std``, for `PatchStatisticsFusion`; a std of 0 becomes 1."""
        mean = self.total / self.number.clamp(min=1)
        std = (self.squares / self.number.clamp(min=1) - mean**2).clamp(min=0).sqrt()
        return dict(mean=mean.tolist(), std=torch.where(std > 1e-9, std, 1).tolist())

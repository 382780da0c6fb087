"""Depth statistics of folders."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence

import numpy as np
import torch

from mmseg_siglip.api.depth import metric_predictor
from mmseg_siglip.api.load import read_config
from mmseg_siglip.cli.jobs.devices import device_of, share_cpus
from mmseg_siglip.cli.jobs.label import weights_digest
from mmseg_siglip.io.depth_unit import is_one_of
from mmseg_siglip.io.image import decode_depth, decode_rgb
from mmseg_siglip.labelling.exports import NOTHING
from mmseg_siglip.labelling.labeller import Row
from mmseg_siglip.later import Later
from mmseg_siglip.patch_stats.export import FORMATS
from mmseg_siglip.patch_stats.statistics import patch_statistics

KEPT = ('patch_size', 'grid', 'space', 'stats', 'depth_scale', 'invalid', 'model')


class PatchStatisticsLabeller:
    """Statistics of depth under each patch, of depth maps or of photographs.

    Args:
        args: Of ``mmseg-siglip patch-stats``.
        device: Where depth is predicted.
    """

    columns: Mapping[str, str] = dict(statistics='binary')

    def __init__(self, args: argparse.Namespace, device: str) -> None:
        self.args, self.predictor = args, None
        self.form = 'npz' if args.format == NOTHING else args.format
        self.settings = {name: getattr(args, name) for name in KEPT} | dict(format=self.form)
        if args.config or args.model:
            self.predictor = metric_predictor(
                args.config, args.checkpoint, published=args.model, device=device
            )
            self.settings['weights'] = weights_digest(self.predictor.model)
        if args.config:
            self.settings['config'] = read_config(args.config).pretty_text

    def decode(self, data: bytes, place: str) -> np.ndarray:
        """Depth (H, W), metres, 0 where it is unknown; or RGB (H, W, 3), if it is predicted."""
        if self.predictor is not None:
            return decode_rgb(data, place)
        units = decode_depth(data, place, per_metre=self.args.depth_scale)
        units[is_one_of(units, self.args.invalid)] = 0
        return units.astype(np.float64) / self.args.depth_scale

    def begin(self, images: Sequence[np.ndarray]) -> Later[Sequence[np.ndarray]]:
        """Depth of each image."""
        if self.predictor is None:
            return Later.now(images)
        found = self.predictor.begin(list(images))
        return found.then(lambda maps: [one.depth for one in maps])

    def rows(self, found: np.ndarray) -> list[Row]:
        """The statistics of depth, in the form that was asked for."""
        encode, _ = FORMATS[self.form]
        statistics = patch_statistics(
            torch.from_numpy(found)[None],
            patch_size=self.args.patch_size,
            grid=self.args.grid and tuple(self.args.grid),
            space=self.args.space,
            names=tuple(self.args.stats),
        )
        return [dict(statistics=encode(statistics))]


def build_statistics_labeller(
    args: argparse.Namespace, number: int, count: int
) -> PatchStatisticsLabeller:
    """The `Recipe` of ``mmseg-siglip patch-stats``."""
    share_cpus(count)
    needed = args.config or args.model
    return PatchStatisticsLabeller(args, device_of(args, number) if needed else 'cpu')

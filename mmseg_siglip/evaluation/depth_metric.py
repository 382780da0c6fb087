"""Depth metrics over a data set: per image, then averaged."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from mmengine.dist import is_main_process
from mmengine.logging import print_log
from torch import Tensor

from mmseg_siglip.evaluation.depth_range import count_range, log_range
from mmseg_siglip.evaluation.depth_scores import (
    ALIGNMENTS,
    CROPS,
    SCORES,
    aligned,
    clamp,
    crop_mask,
    depth_scores,
)
from mmseg_siglip.evaluation.label_maps import fetched, refuse_nan, truth_of
from mmseg_siglip.evaluation.missing_truth import WITHOUT, NoTruth, split_scored
from mmseg_siglip.evaluation.saving_metric import SavingMetric
from mmseg_siglip.io.depth_unit import write_depth
from mmseg_siglip.registry import METRICS

LARGEST = 65535  # of 16 bits
RANGE = 'range'
"""Key of what `count_range` says in a result."""
FEWEST = dict(none=1, median=2, lstsq=3)
"""Pixels with truth that an image needs: one more than numbers are fitted to them, as those alone
would fit whatever is predicted."""


@METRICS.register_module()
class DepthMetric(SavingMetric):
    """The scores of `depth_scores` on samples' ``pred_depth_map`` against ``gt_depth_map``.

    MMSeg's metric of this name keeps every pixel in memory, lets a prediction of 0 spoil the mean,
    and knows one crop; of an image only its scores are kept here. NaN or infinity is refused. An
    image without valid truth counts in no mean: such images are named in the log, and their number
    is reported as ``without_truth``. The log also says how much of the depth is out of the range.

    Args:
        depth_metrics: Names to report; all if not given.
        min_depth_eval: Metres; truth at or below counts as missing, predictions are clamped to it.
        max_depth_eval: Metres; truth above counts as missing, predictions are clamped to it.
        crop_type: Where to look: ``nyu``, ``garg`` (KITTI), ``eigen`` (KITTI), or everywhere.
        align: What is fitted to the truth of each image first: ``none`` | ``median`` | ``lstsq``,
            see `aligned`. Results of different alignments are not comparable. An image with fewer
            than 2 or 3 pixels of truth, which any prediction would fit, has none then.
        depth_scale_factor: Units per metre of the 16-bit files written to `output_dir`, which have
            to hold `max_depth_eval`; farther predictions are written as the farthest, with a word
            in the log, and none as 0, which means unknown.
        output_dir: Folder of predictions to write, if any, under the names of `name_images`.
        format_only: Write predictions and score nothing.

    Raises:
        ValueError: A name is unknown, a range empty, or `max_depth_eval` too far for the files.
    """

    default_prefix = 'depth'

    def __init__(
        self,
        *,
        depth_metrics: Sequence[str] | None = None,
        min_depth_eval: float = 1e-3,
        max_depth_eval: float = 10.0,
        crop_type: str | None = None,
        align: str = 'none',
        depth_scale_factor: float = 1000.0,
        output_dir: str | None = None,
        format_only: bool = False,
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        self.names = tuple(SCORES if depth_metrics is None else depth_metrics)
        unknown = [name for name in self.names if name not in SCORES]
        if unknown or not self.names:
            raise ValueError(
                f'depth_metrics: expected some of {", ".join(SCORES)}, '
                f'found {", ".join(map(str, unknown)) or "none"}'
            )
        if crop_type is not None and crop_type not in CROPS:
            raise ValueError(
                f'crop_type: expected None or one of {", ".join(CROPS)}, found {crop_type!r}'
            )
        if align not in ALIGNMENTS:
            raise ValueError(f'align: expected one of {", ".join(ALIGNMENTS)}, found {align!r}')
        if not 0 < min_depth_eval < max_depth_eval < float('inf'):
            raise ValueError(
                'expected 0 < min_depth_eval < max_depth_eval < inf, '
                f'found {min_depth_eval} and {max_depth_eval}'
            )
        if not 0 < depth_scale_factor < math.inf:
            raise ValueError(
                f'depth_scale_factor: expected a positive number, found {depth_scale_factor}'
            )
        if output_dir is not None and max_depth_eval * depth_scale_factor > LARGEST:
            raise ValueError(
                f'depth_scale_factor: expected what 16 bits hold, at most {LARGEST} / '
                f'{max_depth_eval} m = {LARGEST / max_depth_eval:.2f} units a metre, '
                f'found {depth_scale_factor}'
            )
        self.min_depth, self.max_depth = min_depth_eval, max_depth_eval
        self.crop, self.align, self.format_only = crop_type, align, format_only
        self.units_per_metre = depth_scale_factor
        self.output_dir = None if output_dir is None else Path(output_dir)
        if self.output_dir is not None and is_main_process():
            self.output_dir.mkdir(parents=True, exist_ok=True)

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Score each sample.

        Raises:
            ValueError: Its prediction holds NaN or infinity, or its truth has another size.
        """
        for sample in fetched(data_samples, 'pred_depth_map', 'gt_depth_map'):
            name = sample.get('img_path', 'a sample')
            prediction = sample['pred_depth_map']['data'].squeeze(0)
            refuse_nan(prediction, name)
            kind = sample.get('depth_kind', 'depth')
            if kind != 'depth' and self.output_dir is not None:
                raise ValueError(
                    'output_dir: expected a model of metric depth, found a relative one, whose '
                    'numbers have no unit; `mmseg-siglip depth --format npy` writes them'
                )
            if not self.format_only:
                truth = truth_of(sample, 'gt_depth_map', 'LoadDepthAnnotation').squeeze(0)
                try:
                    result = self.score(prediction, truth, name=name, kind=kind)
                except NoTruth:
                    result = {WITHOUT: name}
                self.results.append(result | {RANGE: self._count_range(prediction, truth, kind)})
            if self.output_dir is not None:
                self._save(prediction, name)

    def score(
        self, prediction: Tensor, truth: Tensor, *, name: str, kind: str = 'depth'
    ) -> dict[str, float]:
        """The scores of one image from maps (H, W).

        Raises:
            ValueError: See `process` and `aligned`.
        """
        refuse_nan(prediction, name)
        if prediction.shape != truth.shape:
            raise ValueError(
                f'{name}: expected a prediction of the truth size {tuple(truth.shape)}, '
                f'found {tuple(prediction.shape)}'
            )
        mask = self._counts(truth)
        if mask.sum() < FEWEST[self.align]:
            found = int(mask.sum()) or 'no'
            raise NoTruth(f'{name}: expected {self._wanted}, found {found} such pixel')
        prediction, truth = prediction[mask].double(), truth[mask].double()
        bounds = dict(min_depth=self.min_depth, max_depth=self.max_depth)
        try:
            prediction = aligned(prediction, truth, how=self.align, kind=kind, **bounds)
        except ValueError as error:
            raise ValueError(f'{name}: {error}') from None
        return depth_scores(clamp(prediction, **bounds), truth)

    def compute_metrics(self, results: list[dict]) -> dict[str, float]:
        """The mean of each score over the images that have truth, and how many have none, if any.

        Raises:
            ValueError: No image has.
        """
        log_range(
            [result[RANGE] for result in results], f'in {self.min_depth} to {self.max_depth} m'
        )
        scored, without = split_scored(results, self._wanted)
        means = {name: float(np.mean([result[name] for result in scored])) for name in self.names}
        return means | without

    @property
    def _wanted(self) -> str:
        """What an image is scored by, in words."""
        where = f' in the {self.crop} crop' if self.crop else ''
        fewest = FEWEST[self.align]
        count = f" at {fewest} pixels or more, for align='{self.align}'" if fewest > 1 else ''
        return f'true depth between {self.min_depth} and {self.max_depth} m{where}{count}'

    def _counts(self, truth: Tensor) -> Tensor:
        """(H, W) bool: truth in the range, where the benchmark looks."""
        mask = torch.isfinite(truth) & (truth > self.min_depth) & (truth <= self.max_depth)
        return mask & crop_mask(tuple(truth.shape), self.crop)

    def _count_range(self, prediction: Tensor, truth: Tensor, kind: str) -> dict[str, float]:
        return count_range(
            prediction if (kind, self.align) == ('depth', 'none') else None,
            truth,
            crop_mask(tuple(truth.shape), self.crop),
            self._counts(truth),
            limits=(self.min_depth, self.max_depth),
        )

    def _save(self, prediction: Tensor, name: str) -> None:
        units = (prediction * self.units_per_metre).round()
        beyond = int((units > LARGEST).sum())
        if beyond:
            print_log(
                f'{name}: {beyond} predicted pixels are beyond the '
                f'{LARGEST / self.units_per_metre:g} m that its file holds and are written as that',
                'current',
                logging.WARNING,
            )
        units = units.clamp(1, LARGEST).numpy().astype(np.uint16)
        file = self.output_dir / f'{self.image_names(name)}.png'
        self.writers(write_depth, units, file, per_metre=self.units_per_metre)

"""Angles between predicted and true surface normals over a data set."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from mmengine.dist import is_main_process
from mmengine.logging import print_log
from PIL import Image
from torch import Tensor

from mmseg_siglip.evaluation.label_maps import fetched
from mmseg_siglip.evaluation.missing_truth import WITHOUT, NoTruth, split_scored
from mmseg_siglip.evaluation.saving_metric import SavingMetric
from mmseg_siglip.io.files import write_image
from mmseg_siglip.io.normal_colours import normal_colours
from mmseg_siglip.registry import METRICS

WITHIN = (11.25, 22.5, 30.0)
"""Degrees."""
STEPS = 9000
"""Steps from 0 to 180 degrees in which angles are counted for the median, which is exact to one of
them, 0.02 degrees."""
FEW = 0.5
"""Part of the pixels with truth below which the log warns: colours of another meaning are no
directions."""


@METRICS.register_module()
class NormalMetric(SavingMetric):
    """``pred_normal_map`` against ``gt_normal_map``, all pixels of all images together.

    In degrees ``mean``, ``median`` and ``rmse`` of the angle; as parts of 1 the pixels
    ``within_11.25``, ``within_22.5`` and ``within_30`` degrees. Truth of zeros, or
    that is no number, is none; the log says how much there is. An image without truth is named in
    the log, and the number of such images reported as ``without_truth``.

    Args:
        output_dir: Folder of predictions to write, if any: 8-bit PNG, x, y and z from -1 to 1 as
            red, green and blue, ``NAME.normals.png``.
        format_only: Write predictions and score nothing.
    """

    default_prefix = 'normals'

    def __init__(
        self, *, output_dir: str | None = None, format_only: bool = False, **kwargs
    ) -> None:
        super().__init__(**kwargs)
        self.format_only = format_only
        self.output_dir = None if output_dir is None else Path(output_dir)
        if self.output_dir is not None and is_main_process():
            self.output_dir.mkdir(parents=True, exist_ok=True)

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Count the angles of each sample.

        Raises:
            ValueError: It has no prediction or truth, or truth of another size, or a prediction
                that is no number.
        """
        for sample in fetched(data_samples, 'pred_normal_map', 'gt_normal_map'):
            name = sample.get('img_path', 'a sample')
            prediction = map_of(sample, 'pred_normal_map', name)
            if not torch.isfinite(prediction).all():
                raise ValueError(f'{name}: expected predicted normals, found NaN or infinity')
            if not self.format_only:
                truth = map_of(sample, 'gt_normal_map', name)
                try:
                    self.results.append(angle_sums(prediction, truth, name))
                except NoTruth:
                    self.results.append({WITHOUT: name})
            if self.output_dir is not None:
                pixels = normal_colours(prediction.movedim(0, -1).float().numpy())
                file = self.output_dir / f'{self.image_names(name)}.normals.png'
                self.writers(write_image, Image.fromarray(pixels), file)

    def compute_metrics(self, results: list[dict]) -> dict[str, float]:
        """See above.

        Raises:
            ValueError: No image has truth.
        """
        scored, without = split_scored(results, 'true normals')
        total = {name: sum(result[name] for result in scored) for name in scored[0]}
        count = total['count']
        print_log(
            f'true normals at {count / total["pixels"]:.2%} of the pixels of {len(scored)} images',
            'current',
            logging.WARNING if count < FEW * total['pixels'] else logging.INFO,
        )
        found = dict(
            mean=total['angles'] / count,
            median=median_of(total['steps']),
            rmse=(total['squares'] / count) ** 0.5,
        )
        parts = {f'within_{limit:g}': total[str(limit)] / count for limit in WITHIN}
        return {name: float(value) for name, value in (found | parts).items()} | without


def map_of(sample: dict, field: str, name: str) -> Tensor:
    """(3, H, W) of a sample, on the CPU.

    Raises:
        ValueError: It has none.
    """
    if sample.get(field) is None:
        raise ValueError(f'{name}: expected {field}, found none')
    return sample[field]['data'].detach().cpu()


def angle_sums(prediction: Tensor, truth: Tensor, name: str) -> dict[str, float | np.ndarray]:
    """What of the angles of one image adds up over images.

    Args:
        prediction: (3, H, W), of any length but 0.
        truth: (3, H, W), of length 1; zeros or not finite where there is none.
        name: The image, for messages.

    Raises:
        NoTruth: There is none at all.
        ValueError: The sizes differ.
    """
    if prediction.shape != truth.shape:
        raise ValueError(
            f'{name}: expected predicted normals of the size of the truth {tuple(truth.shape)}, '
            f'found {tuple(prediction.shape)}'
        )
    known = torch.isfinite(truth).all(0) & (truth.abs().sum(0) > 0)
    if not known.any():
        raise NoTruth(f'{name}: expected true normals, found none')
    degrees = torch.rad2deg(angles(prediction[:, known].double(), truth[:, known].double()))
    steps = (degrees * (STEPS / 180)).long().clamp(max=STEPS - 1)
    return dict(
        count=len(degrees),
        pixels=known.numel(),
        angles=float(degrees.sum()),
        squares=float((degrees**2).sum()),
        steps=torch.bincount(steps, minlength=STEPS).numpy().astype(np.uint32),
        **{str(limit): int((degrees <= limit).sum()) for limit in WITHIN},
    )


def angles(first: Tensor, second: Tensor) -> Tensor:
    """Radians between vectors (3, ...), exact for small ones, too, where the arc cosine is not."""
    first, second = (torch.nn.functional.normalize(x, dim=0) for x in (first, second))
    return 2 * torch.atan2((first - second).norm(dim=0), (first + second).norm(dim=0))


def median_of(steps: np.ndarray) -> float:
    """numpy's median, degrees, of angles of which there are so many in each step."""
    below = np.cumsum(steps.astype(np.int64))
    middle = np.array([(below[-1] - 1) // 2, below[-1] // 2])
    index = np.searchsorted(below, middle, side='right')
    inside = (middle - (below[index] - steps[index]) + 0.5) / steps[index]
    return 180 / STEPS * float((index + inside).mean())

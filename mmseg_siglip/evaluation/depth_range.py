"""How much of true and predicted depth lies outside a metric's range, which no score tells.

Shapes: maps of (H, W).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

import torch
from mmengine.logging import print_log
from torch import Tensor

MANY = 0.05
"""Part of the true depth beyond the range from which on the log warns."""


def count_range(
    prediction: Tensor | None,
    truth: Tensor,
    looked_at: Tensor,
    counted: Tensor,
    *,
    limits: tuple[float, float],
) -> dict[str, float]:
    """Count one image.

    Args:
        prediction: (H, W), metres; None where it has no unit.
        truth: (H, W), metres; not positive or not finite where there is none.
        looked_at: (H, W) bool: where the benchmark looks.
        counted: (H, W) bool: where there is truth in the range.
        limits: Ends of the range, metres.

    Returns:
        Pixels ``looked_at``; of these ``known``, with true depth; of these ``counted``; of these
        ``clamped``, with a prediction outside of the range; and where some are known ``middle``,
        the median true depth, metres.
    """
    known = torch.isfinite(truth) & (truth > 0) & looked_at
    low, high = limits
    outside = counted & False if prediction is None else (prediction < low) | (prediction > high)
    masks = dict(looked_at=looked_at, known=known, counted=counted, clamped=outside & counted)
    found = {name: int(mask.sum()) for name, mask in masks.items()}
    return found | (dict(middle=float(truth[known].median())) if found['known'] else {})


def log_range(counts: Sequence[Mapping[str, float]], inside: str) -> None:
    """One line about all images, a warning if much of the truth does not count.

    Args:
        counts: Of the images.
        inside: Being in the range, in words.
    """
    looked_at, known, counted, clamped = (
        sum(count[name] for count in counts)
        for name in ('looked_at', 'known', 'counted', 'clamped')
    )
    if not known:
        return
    middles = [count['middle'] for count in counts if count['known']]
    beyond = 1 - counted / known
    parts = [
        f'true depth at {counted / looked_at:.2%} of the pixels looked at, medians of images '
        f'{min(middles):.4g} to {max(middles):.4g} m'
    ]
    if beyond:
        parts.append(f'{beyond:.2%} of the true depth is not {inside} and does not count')
    if clamped:
        parts.append(f'{clamped / counted:.2%} of the predictions are not and are clamped')
    print_log('; '.join(parts), 'current', logging.WARNING if beyond > MANY else logging.INFO)

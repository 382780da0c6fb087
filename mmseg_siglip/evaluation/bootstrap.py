"""How far a mean over classes may be trusted, given the images that it was measured on.

Images are drawn again, as many as there are, with replacement (Efron's bootstrap,
https://doi.org/10.1214/aos/1176344552); pixels of a draw are summed before they are divided, as in
the score itself. Two methods on the same images are drawn alike, so what makes an image hard for
both does not blur their difference.

Shapes: N images, C classes, R resamples.
"""

from __future__ import annotations

import numpy as np

RESAMPLES = 1000
SEED = 0
LEVEL = 0.95


def resampled_miou(counts: np.ndarray, *, resamples: int = RESAMPLES) -> np.ndarray:
    """mIoU of each resample, in percent: (R,), equal draws for equal N.

    Args:
        counts: (N, 2, C), the intersection and the union of each image and class, in pixels.
            Classes without a pixel in a draw are left out of its mean; a draw without any is NaN.
        resamples: R.
    """
    images = len(counts)
    draws = np.random.default_rng(SEED).multinomial(images, [1 / images] * images, size=resamples)
    total = np.tensordot(draws.astype(np.float64), counts.astype(np.float64), axes=1)
    intersection, union = total[:, 0], total[:, 1]
    seen = union > 0
    iou = np.divide(intersection, union, out=np.zeros_like(union), where=seen)
    classes = seen.sum(1)
    mean = np.full(resamples, np.nan)
    return 100 * np.divide(iou.sum(1), classes, out=mean, where=classes > 0)


def confidence_interval(values: np.ndarray) -> tuple[float, float]:
    """The middle `LEVEL` of resampled values (R,), NaN left out."""
    tail = 50 * (1 - LEVEL)
    low, high = np.nanpercentile(values, [tail, 100 - tail])
    return float(low), float(high)

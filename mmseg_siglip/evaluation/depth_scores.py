"""Errors between a predicted and a true depth map, as the benchmarks of NYU and KITTI count them.

Eigen et al., https://arxiv.org/abs/1406.2283. Shapes: maps of (H, W); n valid pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor

SCORES = (
    'delta1',
    'delta2',
    'delta3',
    'abs_rel',
    'sq_rel',
    'rmse',
    'rmse_log',
    'log10',
    'silog',
    'silog_mmseg',
)
ALIGNMENTS = ('none', 'median', 'lstsq')
NYU_SIZE, NYU_CROP = (480, 640), (45, 471, 41, 601)
# Parts of height and width: first row, end row, first column, end column.
PART_CROPS = {
    'garg': (0.40810811, 0.99189189, 0.03594771, 0.96405229),
    'eigen': (0.3324324, 0.91351351, 0.0359477, 0.96405229),
}
CROPS = ('nyu', *PART_CROPS)


def crop_mask(size: tuple[int, int], crop: str | None) -> Tensor:
    """(H, W) bool: where a benchmark looks.

    Raises:
        ValueError: NYU's crop, which is in pixels, on another size than NYU's.
    """
    if crop is None:
        return torch.ones(size, dtype=torch.bool)
    if crop == 'nyu':
        if tuple(size) != NYU_SIZE:
            raise ValueError(
                f"crop 'nyu': expected a depth map of {NYU_SIZE[0]}x{NYU_SIZE[1]}, "
                f'found {size[0]}x{size[1]} (height x width)'
            )
        edges = NYU_CROP
    else:
        sides = (size[0], size[0], size[1], size[1])
        edges = [int(part * side) for part, side in zip(PART_CROPS[crop], sides, strict=True)]
    mask = torch.zeros(size, dtype=torch.bool)
    mask[edges[0] : edges[1], edges[2] : edges[3]] = True
    return mask


def clamp(prediction: Tensor, min_depth: float, max_depth: float) -> Tensor:
    """Into [min_depth, max_depth], infinity as well; NaN stays."""
    return prediction.clamp(min_depth, max_depth)


def aligned(
    prediction: Tensor, truth: Tensor, *, how: str, kind: str, min_depth: float, max_depth: float
) -> Tensor:
    """The prediction as depth in metres, after fitting it to the truth as far as `how` allows.

    Args:
        prediction: (n,), metres, or inverse depth up to scale and shift.
        truth: (n,), metres.
        how: ``none``; ``median``, one factor on depth, the medians' quotient; ``lstsq``, scale and
            shift of inverse depth by least squares.
        kind: ``depth`` or ``inverse``: what the prediction is.
        min_depth: Metres, bound of what ``lstsq`` turns inverse depth into; ``median`` has none,
            so that the scale of the prediction has no effect.
        max_depth: Likewise.

    Raises:
        ValueError: Inverse depth is to be compared without fitting, or no factor fits since the
            median of the prediction is not above 0.
    """
    if how == 'none':
        if kind == 'inverse':
            raise ValueError(
                "align: expected 'median' or 'lstsq' for a model of relative depth, found 'none'"
            )
        return prediction
    if how == 'median':
        tiny = torch.finfo(prediction.dtype).tiny
        depth = prediction if kind == 'depth' else 1 / prediction.clamp(min=tiny)
        middle = middle_of(depth)
        if not middle > 0:
            raise ValueError(
                "align='median': expected a prediction whose median is above 0, "
                f'found {float(middle):.4g}'
            )
        return depth * (middle_of(truth) / middle)
    inverse = prediction if kind == 'inverse' else 1 / prediction.clamp(min=min_depth)
    target = 1 / truth
    centred = inverse - inverse.mean()
    variance = (centred**2).mean()
    scale = (centred * target).mean() / variance if variance > 0 else 0.0
    fitted = scale * centred + target.mean()
    return 1 / fitted.clamp(1 / max_depth, 1 / min_depth)


def middle_of(values: Tensor) -> Tensor:
    """numpy's: of an even number of values (n,) the mean of the two middle ones, where torch takes
    the lower."""
    count = len(values)
    low, high = (values.kthvalue(place).values for place in ((count + 1) // 2, count // 2 + 1))
    return (low + high) / 2


def depth_scores(prediction: Tensor, truth: Tensor) -> dict[str, float]:
    """All of `SCORES` of positive depths (n,), n at least 1, in float64.

    ``silog`` is 100 sqrt(E[g²] - E[g]²), g = log prediction - log truth, as in KITTI's table;
    ``silog_mmseg`` is sqrt(E[g²] - E[g]² / 2), which MMSegmentation calls silog. ``rmse`` is in
    metres, ``delta`` a part of 1.
    """
    prediction, truth = prediction.double(), truth.double()
    ratio = torch.maximum(prediction / truth, truth / prediction)
    off = prediction - truth
    g = prediction.log() - truth.log()
    squares, mean = (g**2).mean(), g.mean()
    scores = {f'delta{k}': (ratio < 1.25**k).double().mean() for k in (1, 2, 3)}
    scores.update(
        abs_rel=(off.abs() / truth).mean(),
        sq_rel=(off**2 / truth).mean(),
        rmse=(off**2).mean().sqrt(),
        rmse_log=squares.sqrt(),
        log10=(prediction.log10() - truth.log10()).abs().mean(),
        silog=100 * g.std(correction=0),
        silog_mmseg=(squares - 0.5 * mean**2).clamp(min=0).sqrt(),
    )
    return {name: float(value) for name, value in scores.items()}

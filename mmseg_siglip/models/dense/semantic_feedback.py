"""Semantic feedback refinement (SFR), https://arxiv.org/abs/2411.15851: labels of a first look as
attention between patches of one region.

Shapes: B images, Q words, grid (h, w) of patches of p x p pixels, n = h*w, N = P + n tokens.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import conv1d, interpolate

from mmseg_siglip.device import at_once, upload
from mmseg_siglip.kept import LastUsed, constant
from mmseg_siglip.models.backbones.block import CHUNK_BYTES
from mmseg_siglip.models.dense.spans import spanned
from mmseg_siglip.models.postprocessors.pamr import PAMRPostProcessor

BLUR_STD = 5.0
BLUR_LENGTH = 31
DILATIONS = (8, 16)
PLACES = LastUsed(16)


def patch_labels(
    cosines: Tensor,
    images: Tensor,
    *,
    patch: int,
    scale: float,
    threshold: float,
    unsure: int,
    iterations: int = 10,
    owner: Sequence[int] | None = None,
) -> Tensor:
    """The most frequent label of each patch's pixels, once PAMR has refined the cosines; of several
    the smallest.

    Args:
        cosines: (B, Q, h, w).
        images: (B, 3, H, W), normalised.
        patch: p.
        scale: Factor on cosines in front of the softmax over words.
        threshold: Pixels whose best probability is lower are unsure.
        unsure: Their label.
        iterations: Of PAMR.
        owner: Class of each word; without it each is its own.

    Returns:
        (B, h, w) int64.
    """
    grid = tuple(cosines.shape[-2:])
    images = spanned(images, grid, patch)
    refine = PAMRPostProcessor(num_iter=iterations, dilations=DILATIONS)
    owner = tuple(range(cosines.shape[1]) if owner is None else owner)
    of_word = constant(owner, dtype=torch.int64, device=cosines.device)
    count = max(*owner, unsure) + 1
    found = []
    for one, image in zip(cosines, images, strict=True):
        pixels = interpolate(one[None], size=image.shape[-2:], mode='bilinear')
        logits = scale * refine(image[None].float(), pixels)[0]
        best, word = logits.max(0)
        sure = 1 / (logits - best).exp_().sum(0) >= threshold
        labels = torch.where(sure, of_word[word], unsure)
        labels = labels.unflatten(1, (grid[1], patch)).unflatten(0, (grid[0], patch))
        labels = labels.permute(0, 2, 1, 3).reshape(grid[0] * grid[1], patch**2)
        votes = torch.zeros(len(labels), count, dtype=torch.int32, device=labels.device)
        votes.scatter_add_(1, labels, votes.new_ones(1).expand_as(labels))
        found.append(votes.argmax(1).unflatten(0, grid))
    return torch.stack(found)


def places(side: int, steps: int, *, parity: bool = False) -> Tensor:
    """Where a segment between two cells of one side is looked at, (steps + 1, side, side) int64:
    from the first to the second cell in even steps, rounded.

    A place half-way between two cells counts for the later one, exactly, whichever end one begins
    at. With `parity` it is what float32 makes of it, rounded half to even.
    """
    ends = torch.arange(side)
    if parity:
        part = torch.linspace(0, 1, steps + 1)[:, None, None]
        return (ends[:, None] * (1 - part) + ends[None, :] * part).round().long()
    step, length = torch.arange(steps + 1)[:, None, None], max(steps, 1)
    place = ends[:, None] * length + (ends[None, :] - ends[:, None]) * step
    return (2 * place + length) // (2 * length)


def connected(labels: Tensor, rows: slice, *, parity: bool = False) -> Tensor:
    """Whether the straight way between two patches stays in one region.

    It is looked at in max(h, w) - 1 even steps, none of which may lie on another label than its
    beginning. With `parity`, as the published code has it, at no more steps than the patches lie
    apart: at the beginning of the way alone, unless they lie as far apart as can be.

    Args:
        labels: (h, w).
        rows: Those of the grid that ways begin in.
        parity: See above.

    Returns:
        (rows, w, h, w) bool.
    """
    (h, w), device = labels.shape, labels.device
    steps = max(h, w) - 1
    down, across = (
        PLACES(
            (side, steps, parity, str(device)),
            lambda side=side: upload(places(side, steps, parity=parity), device),
        )
        for side in (h, w)
    )
    start = labels[rows, None, :, None]
    apart = distances((h, w), rows, device).transpose(1, 2)
    found = torch.ones(len(start), h, w, w, dtype=torch.bool, device=device)
    for k in range(steps + 1):
        lines = labels[down[k, rows]]  # (rows, h, w)
        same = lines.index_select(2, across[k].flatten()).unflatten(2, (w, w)) == start
        found &= same | (apart < k) if parity else same
    return found.transpose(1, 2)


def distances(grid: tuple[int, int], rows: slice, device: torch.device) -> Tensor:
    """The greater of the steps down and across between patches, (rows, w, h, w) int64."""
    down, across = (torch.arange(side, device=device) for side in grid)
    down, across = (down[rows, None] - down).abs(), (across[:, None] - across).abs()
    return torch.maximum(down[:, None, :, None], across[None, :, None, :])


def blur(rows: Tensor) -> Tensor:
    """A Gaussian along each row (m, n), beyond whose ends are zeros."""
    length = min(rows.shape[1], BLUR_LENGTH)
    length += 1 - length % 2
    place = torch.arange(length, dtype=rows.dtype, device=rows.device) - length // 2
    kernel = (-place.square() / (2 * BLUR_STD**2)).exp()
    return conv1d(rows[:, None], (kernel / kernel.sum())[None, None], padding=length // 2)[:, 0]


def region_rows(labels: Tensor, *, parity: bool = False, out: Tensor | None = None) -> Tensor:
    """How much patches of one region may attend to each other: labels (h, w) to (n, n) float32,
    rows sum to 1.

    1 within a region, less the further apart two patches lie unless they are `connected`, 0 between
    regions; blurred along the patches in the order in which they are read.

    Args:
        labels: (h, w).
        parity: See `connected`.
        out: What the result is written to.
    """
    h, w = labels.shape
    n, furthest = h * w, max(h, w, 2) - 1
    step = at_once(8 * w * n, labels.device, CHUNK_BYTES)
    out = torch.empty(n, n, device=labels.device) if out is None else out
    for first in range(0, h, step):
        rows = slice(first, first + step)
        apart = distances((h, w), rows, labels.device)
        decay = torch.exp(-apart / furthest)
        weight = torch.where(connected(labels, rows, parity=parity), 1.0, decay)
        weight = weight * (labels[rows, :, None, None] == labels)
        weight = blur(weight.reshape(-1, n))
        out[first * w : (first + step) * w] = weight / (weight.sum(1, keepdim=True) + 1e-8)
    return out


def feedback(labels: Tensor, prefix: int, *, parity: bool = False) -> Tensor:
    """`region_rows` of each image's labels (B, h, w) over all tokens, (B, 1, N, N) float32: its
    largest value is 1, prefix tokens have 0.

    As all rows are measured by the largest of them, it is held, 4 N² bytes an image, and nothing
    else of that size while it is made.
    """
    count = prefix + labels[0].numel()
    mask = torch.zeros(len(labels), 1, count, count, device=labels.device)
    for one, held in zip(labels, mask[:, 0, prefix:, prefix:], strict=True):
        held /= region_rows(one, parity=parity, out=held).max()
    return mask

"""Parts of dense methods as published code computes them: the same arithmetic, more of it at once.

Shapes: grid (h, w), N = h*w patches, Q words, C channels.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import torch
from torch import Tensor
from torch.nn.functional import normalize

from mmseg_siglip.models.dense.lposs import LPOSS
from mmseg_siglip.models.dense.outliers import outlier_factor
from mmseg_siglip.models.dense.semantic_feedback import connected
from mmseg_siglip.models.postprocessors.propagation import conjugate_gradients
from mmseg_siglip.models.scores.feature_surgery import SHARPNESS, feature_surgery

WIDTH, JOINT, WORDS, PATCH = 768, 512, 150, 16
NEIGHBOURS, STEPS, ALPHA = 30, 10, 0.95
Part = tuple[Callable[[], Tensor], Callable[[], Tensor]]


def plain_outlier_factor(tokens: Tensor) -> Tensor:
    """SC-CLIP: distances from all differences (N, N, C); (N, C) to (N,)."""
    distance = (tokens[:, None] - tokens[None]).square().sum(-1)
    distance.fill_diagonal_(float('inf'))
    near, nearest = distance.topk(NEIGHBOURS, largest=False)
    return (near[:, -1:] / near[nearest, -1]).mean(1)


def plain_connected(labels: Tensor) -> Tensor:
    """ResCLIP: every step of every way as a pair of indices, (N, N, steps, 2); (h, w) to (N, N)."""
    h, w = labels.shape
    cells = torch.cartesian_prod(torch.arange(h), torch.arange(w))
    steps = max(h, w) - 1
    t = torch.linspace(0, 1, steps + 1)[:, None]
    ways = cells[:, None, None] * (1 - t) + cells[None, :, None] * t
    places = ways.round().long()
    same = labels[places[..., 0], places[..., 1]] == labels.flatten()[:, None, None]
    apart = (cells[:, None] - cells[None]).abs().amax(-1)
    return (same | (torch.arange(steps + 1) > apart[..., None])).all(-1)


def plain_surgery(features: Tensor, text: Tensor, pooled: Tensor) -> Tensor:
    """CLIP Surgery: products channel by channel, (N, Q, C); of unit (N, C), (Q, C), (C,)."""
    share = (SHARPNESS * pooled @ text.T).softmax(-1)
    weight = share / share.mean()
    products = features[:, None] * (text * weight[:, None])[None]
    return (products - products.mean(1, keepdim=True)).sum(-1)


def plain_gradients(edges: Tensor, y: Tensor) -> Tensor:
    """LPOSS: conjugate gradients for one word after the other, (Q, N)."""
    found, edges = [], edges.to_sparse_csr()
    for target in y:
        x, residual, direction = torch.zeros_like(target), target, target
        for _ in range(STEPS):
            if residual.norm() <= 1e-6 * target.norm():
                break
            image = direction - ALPHA * (edges @ direction)
            step = residual.square().sum() / (direction @ image)
            x, last = x + step * direction, residual
            residual = residual - step * image
            direction = residual + residual.square().sum() / last.square().sum() * direction
        found.append(x)
    return torch.stack(found)


def parts(grid: tuple[int, int]) -> dict[str, Part]:
    """By name: as published, and as it is here; on random tensors of ViT-B/16's sizes."""
    count = grid[0] * grid[1]
    tokens = torch.randn(count, WIDTH)
    labels = torch.randint(0, 3, (-(-grid[0] // 6), -(-grid[1] // 6)))
    labels = labels.repeat_interleave(6, 0).repeat_interleave(6, 1)[: grid[0], : grid[1]]
    features = normalize(torch.randn(count, JOINT), dim=-1)
    text, pooled = (normalize(torch.randn(n, JOINT), dim=-1) for n in (WORDS, 1))
    maps = features.T.unflatten(1, grid)[None]
    trunk = SimpleNamespace(text=text, pooled=pooled)

    def surgery() -> Tensor:
        cosines = torch.einsum('bdhw,qd->bqhw', maps, text)
        return feature_surgery(cosines, maps, trunk)[0].flatten(1).T

    centres = PATCH * torch.cartesian_prod(*map(torch.arange, grid)).double()
    edges = LPOSS(torch.nn.Identity()).edges(normalize(torch.rand(count, WIDTH), dim=-1), centres)
    y = (features @ text.T).T.double()

    def gradients() -> Tensor:
        return conjugate_gradients(lambda x: x - ALPHA * (edges @ x.T).T, y, STEPS)

    return {
        'outliers of sc_clip': (
            lambda: plain_outlier_factor(tokens),
            lambda: outlier_factor(tokens[None], NEIGHBOURS)[0],
        ),
        'ways of resclip': (
            lambda: plain_connected(labels),
            lambda: connected(labels, slice(None), parity=True).reshape(count, count),
        ),
        'words of clip_surgery': (lambda: plain_surgery(features, text, pooled[0]), surgery),
        'gradients of lposs': (lambda: plain_gradients(edges, y), gradients),
    }

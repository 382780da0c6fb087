"""Depth at many resolutions on full-size SigLIP architectures with random weights.

    python benchmarks/depth_resolutions.py

For each model and image size: whether depth has the image's size, whether every trainable weight
gets a finite gradient, the time of a prediction and of a training step (blocks recomputed in the
backward pass), and the peak memory above what the process held before. The floor is the operations
of the prediction over the measured rate of matrix products.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from depth import siglip_config
from measure import CPU, Rates, markdown, measure, report, write_csv
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from torch.utils.flop_counter import FlopCounterMode

from mmseg_siglip.models.backbones.base import patch_grid
from mmseg_siglip.models.segmentors import SigLIPDepthEstimator
from mmseg_siglip.precision import autocast

# width, blocks, heads, MLP, patch, native image size
MODELS = {
    'B/16': (768, 12, 12, 3072, 16, 224),
    'So400m/14': (1152, 27, 16, 4304, 14, 384),
}


def sizes(patch: int) -> list[tuple[int, int]]:
    squares = [(side, side) for side in (224, 384, 512, 896)]
    return [*squares, (480, 640), (37 * patch, 49 * patch)]


def build(model: str, precision: str) -> SigLIPDepthEstimator:
    torch.manual_seed(0)
    estimator = SigLIPDepthEstimator(
        dict(config=siglip_config(*MODELS[model]), with_cp=True),
        dict(loss_decode=dict(type='SILogDepthLoss')),
        precision=precision,
    )
    return estimator.eval()


def check(model: SigLIPDepthEstimator, size: tuple[int, int], precision: str, rates: Rates) -> dict:
    """One row of the table."""
    image = torch.randn(1, 3, *size)
    truth = PixelData(data=torch.rand(1, *size) * 9 + 0.5)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        predicted = measure(lambda: model.encode_decode(image))
    with torch.no_grad():
        again = measure(lambda: model.encode_decode(image))

    def step() -> None:
        with autocast(precision, CPU):
            losses = model.loss(image, [SegDataSample(gt_depth_map=truth)])
        sum(losses.values()).backward()

    model.zero_grad()
    trained = measure(step)
    wanted = [parameter for parameter in model.parameters() if parameter.requires_grad]
    finite = all(p.grad is not None and torch.isfinite(p.grad).all() for p in wanted)
    floor = counter.get_total_flops() / rates.of(precision)
    encoder = model.backbone
    grid = patch_grid(size, encoder.patch_size, encoder.image_size)
    right = predicted.result.shape == (1, 1, *size) and bool(predicted.result.isfinite().all())
    seconds = min(predicted.seconds, again.seconds)
    return {
        'pixels': f'{size[0]} x {size[1]}',
        'patches': f'{grid[0]} x {grid[1]}',
        'shape right': 'yes' if right else 'NO',
        'gradients finite': 'yes' if finite else 'NO',
        'predict s': seconds,
        'floor s': floor,
        'floor / s': floor / seconds,
        'predict MB': max(predicted.peak, again.peak) / 2**20,
        'train step s': trained.seconds,
        'train MB': trained.peak / 2**20,
    }


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description='Depth at many resolutions.')
    parser.add_argument('--models', nargs='+', choices=MODELS, default=list(MODELS))
    parser.add_argument('--precision', default='auto', help='[%(default)s]')
    parser.add_argument('--out', type=Path, metavar='CSV')
    args = parser.parse_args(argv)
    rates = Rates.of_this_machine()
    print(rates, flush=True)
    rows = []
    for name in args.models:
        model = build(name, args.precision)
        for size in sizes(model.backbone.patch_size):
            rows.append({'model': name, **check(model, size, args.precision, rates)})
            print(markdown(rows[-1:]).splitlines()[-1], flush=True)
    report(rows)
    if args.out:
        write_csv(rows, args.out)


if __name__ == '__main__':
    main()

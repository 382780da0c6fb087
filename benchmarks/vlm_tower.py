"""SigLIP So400m/14 at 384 pixels, random weights, as a vision tower: time, memory, difference.

    python benchmarks/vlm_tower.py

Against transformers' whole tower asked for its hidden states, as its LLaVA does, in one run. The
floor is the arithmetic of the blocks needed at the rate of a large matrix product on this machine;
how many times faster is of processor time, which other work on the machine hardly changes. A
second table has the layers: what is not needed is neither read nor computed.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from measure import CPU, Rates, measure, report, write_csv
from torch import Tensor
from transformers import SiglipImageProcessor, SiglipVisionConfig, SiglipVisionModel

from mmseg_siglip.precision import compute_dtype
from mmseg_siglip.vlm import SigLIPVisionTower

CONFIG = dict(
    hidden_size=1152,
    intermediate_size=4304,
    num_hidden_layers=27,
    num_attention_heads=16,
    image_size=384,
    patch_size=14,
)


def flops(images: int, blocks: int, config: SiglipVisionConfig) -> float:
    """Operations of embedding and blocks, two for a multiply-add."""
    n = (config.image_size // config.patch_size) ** 2
    d, f = config.hidden_size, config.intermediate_size
    block = 2 * n * (4 * d * d + 2 * d * f) + 4 * n * n * d
    return images * (blocks * block + 2 * n * d * 3 * config.patch_size**2)


def difference(found: Tensor, reference: Tensor) -> tuple[float, float]:
    """Largest difference, and root mean square of it over that of the reference."""
    off = found - reference
    return off.abs().max().item(), (off.square().mean() / reference.square().mean()).sqrt().item()


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--images', type=int, nargs='+', default=[1, 4, 16])
    parser.add_argument('--layers', type=int, nargs='*', default=[-1, -2, -7, -14])
    parser.add_argument('--out', type=Path, default=Path('work_dirs/benchmarks/vlm_tower.csv'))
    args = parser.parse_args(argv)
    torch.manual_seed(0)
    config = SiglipVisionConfig(**CONFIG)
    full = SiglipVisionModel(config).eval()
    rates = Rates.of_this_machine()
    print(f'{rates}; auto is {compute_dtype("auto", CPU)}')

    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        full.save_pretrained(folder)
        side = config.image_size
        SiglipImageProcessor(size=dict(height=side, width=side)).save_pretrained(folder)
        towers = {
            precision: SigLIPVisionTower(folder, precision=precision)
            for precision in ('fp32', 'auto')
        }
        rows = compare(full, towers, args.images, rates)
        report(rows)
        write_csv(rows, args.out)
        towers.clear()
        rows = by_layer(full, folder, args.layers)
        report(rows)
        write_csv(rows, args.out.with_stem(f'{args.out.stem}_layers'))


def compare(
    full: SiglipVisionModel,
    towers: dict[str, SigLIPVisionTower],
    sizes: Sequence[int],
    rates: Rates,
) -> list[dict]:
    """One row for each number of images and way of computing."""
    rows, config = [], full.config
    for count in sizes:
        images = torch.randn(count, 3, config.image_size, config.image_size)
        repeat = 3 if count < 4 else 2 if count < 16 else 1
        if not rows:
            full(images[:1])
        whole = measure(
            lambda images=images: full(images, output_hidden_states=True).hidden_states[-2],
            repeat=repeat,
        )
        blocks = config.num_hidden_layers
        rows.append(
            {
                'way': 'transformers, fp32',
                'images': count,
                's': whole.seconds,
                'cpu s': whole.cpu,
                'floor s': flops(count, blocks, config) / rates.fp32,
                'GB': whole.peak / 2**30,
                'times faster': 1.0,
                'largest difference': 0.0,
                'relative': 0.0,
            }
        )
        for precision, tower in towers.items():
            tower(images[:1])
            ours = measure(lambda tower=tower, images=images: tower(images), repeat=repeat)
            largest, relative = difference(ours.result, whole.result)
            rows.append(
                {
                    'way': f'tower, {precision}',
                    'images': count,
                    's': ours.seconds,
                    'cpu s': ours.cpu,
                    'floor s': flops(count, blocks - 1, config) / rates.of(precision),
                    'GB': ours.peak / 2**30,
                    'times faster': whole.cpu / ours.cpu,
                    'largest difference': largest,
                    'relative': relative,
                }
            )
    return rows


def by_layer(full: SiglipVisionModel, folder: str, layers: Sequence[int]) -> list[dict]:
    """Time for one image by layer, fp32, and whether the features are transformers' own."""
    rows = []
    images = torch.randn(1, 3, full.config.image_size, full.config.image_size)
    whole = measure(lambda: full(images, output_hidden_states=True).hidden_states, repeat=3)
    for layer in layers:
        tower = SigLIPVisionTower(folder, select_layer=layer)
        ours = measure(lambda tower=tower: tower(images), repeat=3)
        largest, _ = difference(ours.result, whole.result[layer])
        rows.append(
            {
                'layer': layer,
                'weights, M': sum(p.numel() for p in tower.parameters()) / 1e6,
                'cpu s': ours.cpu,
                'time saved, %': 100 * (1 - ours.cpu / whole.cpu),
                'largest difference': largest,
            }
        )
    return rows


if __name__ == '__main__':
    main()

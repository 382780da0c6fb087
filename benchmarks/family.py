"""What each dense method costs over plain `csa` on the same picture, and over wasteful arithmetic.

    python benchmarks/family.py

ViT-B/16 with random weights, in float32. The first table: one picture of 336 x 448 pixels in one
window; a method and `csa` take turns, and the best of each counts. Operations are counted by torch,
so that the last column tells what a method must cost at least: its own operations over those of
`csa`. Guides are of equal cost (a DINO ViT-B/16), regions are given.

The second table, at 336 x 336 pixels: parts that published code does wastefully, against the same
arithmetic written as it is published.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from measure import Rates, measure, report, write_csv
from torch import Tensor
from torch.nn.functional import normalize
from torch.utils.flop_counter import FlopCounterMode

from mmseg_siglip.datasets.shapes_world.scene import generate, scene_seed
from mmseg_siglip.models.backbones import CLIPBackbone
from mmseg_siglip.models.backbones.trunk import Method, Surroundings, View, build_method

ARCH = 'ViT-B-16-quickgelu'
VIT_B16 = dict(
    hidden_size=768,
    num_hidden_layers=12,
    num_attention_heads=12,
    intermediate_size=3072,
    patch_size=16,
    image_size=224,
)
GUIDE = dict(type='DINOGuide', config=dict(VIT_B16, model_type='vit'))
WORDS = 20
METHODS: Mapping[str, tuple[dict[str, Any], float]] = {
    'sc_clip': (dict(), 1.1),
    'sfp': (dict(), 1.1),
    'scra': (dict(), 1.1),
    'cliptrase': (dict(), 1.1),
    'gem': (dict(), 1.5),
    'clip_surgery': (dict(), 1.5),
    'resclip': (dict(pamr=None), 1.3),
    'proxyclip': (dict(guide=GUIDE), 2.2),
    'corrclip': (dict(guide=dict(GUIDE, site='q+k')), 2.6),
}
"""Settings, and the cost over `csa` that is wanted."""


def picture(size: tuple[int, int], encoder: CLIPBackbone) -> Tensor:
    """A drawn scene (1, 3, H, W), normalised."""
    pixels = torch.from_numpy(generate(scene_seed('test', 0), size=size).image).permute(2, 0, 1)
    return encoder.from_pixels(pixels[None] / 255)


def regions(size: tuple[int, int]) -> Tensor:
    """Twelve regions (H, W), 0 in the middle of the picture."""
    y, x = torch.meshgrid(*map(torch.arange, size), indexing='ij')
    tiles = (3 * y // size[0]) * 4 + 4 * x // size[1] + 1
    middle = (y - size[0] / 2).abs().maximum((x - size[1] / 2).abs()) < min(size) / 8
    return tiles.masked_fill(middle, 0)


def run(encoder: CLIPBackbone, method: Method, image: Tensor, text: Tensor) -> Callable[[], Tensor]:
    """From pixels to what words get."""
    size = tuple(image.shape[-2:])
    prepared = method.prepare(encoder.to_pixels(image[0]))
    views = [View(0, (0, 0, *size), prepared, regions(size))]
    known = Surroundings(views, lambda: text, 40.0)

    def call() -> Tensor:
        trunk = encoder.trunk(image, surroundings=known)
        features = encoder.features_of(trunk, method)
        cosines = torch.einsum('bdhw,qd->bqhw', normalize(features, dim=1), text)
        return method.score(cosines, features, trunk)

    return call


def operations(call: Callable[[], Any]) -> int:
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


def costs(encoder: CLIPBackbone, repeat: int) -> list[dict]:
    """A row a method."""
    image = picture((336, 448), encoder)
    text = normalize(torch.randn(WORDS, encoder.embed_dim), dim=1)
    plain, rates, rows = run(encoder, build_method('csa'), image, text), Rates.of_this_machine(), []
    base = operations(plain)
    for name, (settings, wanted) in METHODS.items():
        method = build_method(dict(type=name, **settings))
        ours = run(encoder, method, image, text)
        ours(), plain()
        seconds, plain_seconds, peak = [], [], 0
        for _ in range(repeat):
            plain_seconds.append(measure(plain).cpu)
            found = measure(ours)
            seconds.append(found.cpu)
            peak = max(peak, found.peak)
        count = operations(ours)
        rows.append(
            {
                'method': name,
                'csa s': min(plain_seconds),
                's': min(seconds),
                'times csa': min(seconds) / min(plain_seconds),
                'wanted': wanted,
                'operations over csa': count / base,
                'floor s': count / rates.fp32 * torch.get_num_threads(),
                'peak MB': peak / 2**20,
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--repeat', type=int, default=5)
    parser.add_argument('--out', type=Path, default=Path('work_dirs/bench'))
    args = parser.parse_args()
    torch.manual_seed(0)
    encoder = CLIPBackbone(arch=ARCH).requires_grad_(False)
    with torch.no_grad():
        rows = costs(encoder, args.repeat)
    write_csv(rows, args.out / 'family.csv')
    report(rows)


if __name__ == '__main__':
    main()

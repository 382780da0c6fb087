"""What each dense method costs over plain `csa` on the same picture, and over wasteful arithmetic.

    python benchmarks/family.py [--memory]

ViT-B/16 with random weights, in float32. The first table: one picture of 336 x 448 pixels in one
window; a method and `csa` take turns, and the best of each counts. Operations are counted by torch,
so that the last column tells what a method must cost at least: its own operations over those of
`csa`. Guides are of equal cost (a DINO ViT-B/16), regions are given.

The second table: parts that published code does wastefully, against the same arithmetic written as
it is published, see `family_parts.py`.

With ``--memory`` a third one in their place: the most that ProxyCLIP with a DINO ViT-B/8 takes
above the weights, on a picture of 1024 x 2048 pixels in windows of its published size. It takes
long.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from family_parts import parts
from measure import Rates, measure, report, write_csv
from mmseg.structures import SegDataSample
from torch import Tensor
from torch.nn.functional import normalize
from torch.utils.flop_counter import FlopCounterMode

from mmseg_siglip.datasets.shapes_world.scene import generate, scene_seed
from mmseg_siglip.models.backbones import CLIPBackbone
from mmseg_siglip.models.backbones.planes import whole
from mmseg_siglip.models.backbones.trunk import Method, Surroundings, View, build_method
from mmseg_siglip.models.dense.proxyclip import SLIDE
from mmseg_siglip.models.segmentors import SCLIPSegmentor

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
FINE_GUIDE = dict(type='DINOGuide', config=dict(VIT_B16, model_type='vit', patch_size=8))
WORDS = 20
GRIDS = ((21, 21), (21, 28))
METHODS: Mapping[str, tuple[dict[str, Any], float]] = {
    'sc_clip': (dict(), 1.1),
    'sfp': (dict(), 1.1),
    'scra': (dict(), 1.1),
    'cliptrase': (dict(), 1.1),
    'gem': (dict(), 1.5),
    'clip_surgery': (dict(), 1.5),
    'resclip': (dict(pamr=0), 1.3),
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
        if method.gives == 'cosines':
            return features if isinstance(features, Tensor) else whole(features)
        cosines = torch.einsum('bdhw,qd->bqhw', normalize(features, dim=1), text)
        return method.score(cosines, features, trunk)

    return call


def operations(call: Callable[[], Any]) -> int:
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


def costs(encoder: CLIPBackbone, *, repeat: int, size: tuple[int, int] = (336, 448)) -> list[dict]:
    """A row a method."""
    image = picture(size, encoder)
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


def waste(repeat: int, grids: Sequence[tuple[int, int]]) -> list[dict]:
    """A row a part and grid of patches."""
    rows = []
    for grid in grids:
        for name, (plain, ours) in parts(grid).items():
            expected, found = measure(plain, repeat=repeat), measure(ours, repeat=repeat)
            rows.append(
                {
                    'part': name,
                    'patches': f'{grid[0]} x {grid[1]}',
                    'plain s': expected.cpu,
                    's': found.cpu,
                    'times faster': expected.cpu / found.cpu,
                    'wanted': 3,
                    'plain MB': expected.peak / 2**20,
                    'MB': found.peak / 2**20,
                    'largest difference': (
                        (expected.result.double() - found.result.double()).abs().max().item()
                    ),
                }
            )
    return rows


def memory(backbone: dict[str, Any], *, size: tuple[int, int] = (1024, 2048)) -> list[dict]:
    """One row, of ProxyCLIP with a guide of small patches."""
    crop, stride = SLIDE['crop_size'], SLIDE['stride']
    segmentor = SCLIPSegmentor(
        backbone,
        [f'word {i}' for i in range(WORDS)],
        templates='plain',
        attention=dict(type='proxyclip', guide=FINE_GUIDE),
        test_cfg=dict(crop_size=(crop, crop), stride=(stride, stride)),
    ).eval()
    pixels = torch.from_numpy(generate(scene_seed('test', 0), size=size).image).permute(2, 0, 1)
    sample = SegDataSample(metainfo=dict(ori_shape=size, img_shape=size))
    _ = segmentor.text
    found = measure(
        lambda: segmentor.test_step(dict(inputs=[pixels.flip(0)], data_samples=[sample]))
    )
    return [
        {
            'method': 'proxyclip, DINO of patches of 8',
            'pixels': f'{size[0]} x {size[1]}',
            's': found.seconds,
            'GB': found.peak / 1e9,
            'wanted': 3,
        }
    ]


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--repeat', type=int, default=5)
    parser.add_argument('--memory', action='store_true', help='the third table, and no other')
    parser.add_argument('--out', type=Path, default=Path('work_dirs/bench'))
    args = parser.parse_args(argv)
    torch.manual_seed(0)
    with torch.no_grad():
        if args.memory:
            tables = dict(family_memory=memory(dict(type='CLIPBackbone', arch=ARCH)))
        else:
            encoder = CLIPBackbone(arch=ARCH).requires_grad_(False)
            tables = dict(
                family=costs(encoder, repeat=args.repeat), family_parts=waste(args.repeat, GRIDS)
            )
    for name, rows in tables.items():
        write_csv(rows, args.out / f'{name}.csv')
        report(rows)


if __name__ == '__main__':
    main()

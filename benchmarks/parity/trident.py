"""Trident."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import torch
from golden import Case, Golden
from PIL import Image
from second_models import guide, segmentor, stitched
from torch import Tensor
from torch.nn.functional import normalize

from mmseg_siglip.models.dense import Trident

FILE = 'trident_tiny'
OPTIONS = dict(noneg=dict(negative=False), zero=dict(sharpness=0.0))
STRIDES = dict(zero=112)
PARTS = ('spliced', 'samgrid', 'cos', 'logits', 'feat', 'samv', 'samattn_row0')


class Recorded(Trident):
    """Keeps what it makes on the way, and sees for SAM the picture that it is given."""

    picture: Tensor

    def prepare(self, pixels: Tensor):
        self.seen = super().prepare(self.picture)
        return self.seen

    def spliced(self, trunk):
        self.map = super().spliced(trunk)
        return self.map

    def forward(self, trunk):
        self.dense = super().forward(trunk)
        return self.dense


def cases(golden: Golden) -> Iterator[Case]:
    for stem in ('native', 'wide', 'slide', 'noneg', 'zero'):
        for part in PARTS:
            yield Case(
                'trident',
                FILE,
                f'{stem}_{part}',
                lambda stem=stem, part=part: run(golden, stem, part),
            )


def for_sam(golden: Golden, seed: int, size: tuple[int, int], out: tuple[int, int]) -> Tensor:
    """The picture as SAM's predictor brings it to its input: (3, h, w), a long side of 1024."""
    image = cv2.resize(golden.tiny_clip.image(seed, *size), out[::-1])
    whole = [-(-side // 16) * 16 for side in out]
    image = cv2.resize(image, whole[::-1])
    scale = 1024 / max(whole)
    wanted = [int(side * scale + 0.5) for side in whole]
    image = Image.fromarray(image).resize(wanted[::-1], Image.Resampling.BILINEAR)
    return torch.tensor(list(image.getdata())).reshape(*wanted, 3).permute(2, 0, 1) / 255


def run(golden: Golden, stem: str, part: str) -> Tensor:
    seed, size, out = (golden.array(FILE, f'{stem}_{name}') for name in ('seed', 'hw', 'ori'))
    seed, size, out = int(seed), tuple(size.tolist()), tuple(out.tolist())
    method = Recorded(guide(golden, 'dino16'), guide(golden, 'sam'), **OPTIONS.get(stem, {}))
    method.picture = for_sam(golden, seed, size, out)
    stride = STRIDES.get(stem, 224)
    model = segmentor(golden, method, test_cfg=dict(crop_size=336, stride=stride))
    image = golden.picture(seed, *size)
    if part == 'logits':
        return stitched(model, image, out)[:, ::16, ::16]
    (seen,) = model._look([image[0]], [None])
    (sam,) = method.seen
    if part == 'samgrid':
        return torch.tensor(sam.grid)
    if part == 'cos':
        return seen.cosines[0, 0].permute(1, 2, 0)[::3, ::3]
    if part == 'feat':
        return normalize(method.dense[0], dim=0).permute(1, 2, 0)[::8, ::8]
    if part == 'spliced':
        count = len(golden.array(FILE, f'{stem}_spliced'))
        return method.map[0, :: method.map.shape[1] // count]
    if part == 'samv':
        return sam.values.unflatten(1, sam.grid)[:, :4, :4]
    return sam.rows(0, 1)[:, 0].unflatten(1, sam.grid)[:, ::4, ::4]

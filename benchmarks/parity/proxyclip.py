"""ProxyCLIP."""

from __future__ import annotations

from collections.abc import Iterator

from golden import Case, Golden, rows
from second_models import guide, queries, segmentor, stitched
from torch import Tensor
from torch.nn.functional import interpolate

from mmseg_siglip.models.backbones.trunk import Trunk
from mmseg_siglip.models.dense import ProxyCLIP
from mmseg_siglip.models.dense.correlation import mean_cosine

GUIDES = ('dino8', 'dino16', 'dinov2reg14')
SIZES = dict(native=(224, 224), wide=(224, 336))
WINDOWS = dict(crop_size=224, stride=112)


def cases(golden: Golden) -> Iterator[Case]:
    for name in GUIDES:
        for view, size in SIZES.items():
            stem = f'{name}_{view}'
            for part in ('feat', 'cos', 'up', 'corr0', 'corrmean'):
                strays = 0.002 if stem == 'dino8_wide' else 0.0
                yield Case(
                    'proxyclip',
                    'proxyclip_tiny',
                    f'{stem}_{part}',
                    lambda name=name, stem=stem, size=size, part=part: one_window(
                        golden, name, stem, size, part
                    ),
                    strays=strays,
                )
    for key in golden.keys('proxyclip_slide_tiny'):
        if not key.endswith(('_seed', '_margin', 'seed', 'margin', 'hw', 'ori')):
            yield Case('proxyclip', 'proxyclip_slide_tiny', key, lambda: slide(golden))


def one_window(golden: Golden, name: str, stem: str, size: tuple[int, int], part: str) -> Tensor:
    seed = int(golden.array('proxyclip_tiny', f'{stem}_seed'))
    method, clip = ProxyCLIP(guide(golden, name)), golden.clip(3)
    trunk = Trunk(clip, golden.picture(seed, *size))
    if part.startswith('corr'):
        seen = method.look(trunk).x
        return mean_cosine(seen).squeeze() if part == 'corrmean' else seen[0, :2] @ seen[0].T
    dense = method(trunk)
    cells = rows(dense)
    if part == 'feat':
        return cells[:: 4 if len(cells) > 400 else 1]
    cosines = cells @ queries(golden).T
    if part == 'cos':
        return cosines
    maps = cosines.T.unflatten(1, dense.shape[-2:])[None]
    return interpolate(maps, size=size, mode='bilinear')[0, :, ::16, ::16]


def slide(golden: Golden) -> Tensor:
    model = segmentor(golden, ProxyCLIP(guide(golden, 'dino16')), test_cfg=WINDOWS)
    return stitched(model, golden.picture(41, 336, 448), (375, 500))[:, ::8, ::8]

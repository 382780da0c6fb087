"""LPOSS and LPOSS+ (https://github.com/vladan-stojnic/LPOSS at e489a74)."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import numpy as np
import torch
from golden import Case, Golden
from mmseg.structures import SegDataSample
from second_models import guide, queries, segmentor
from torch import Tensor
from torch.nn.functional import interpolate, normalize

from mmseg_siglip.models.dense.guided import look
from mmseg_siglip.models.dense.lposs import LPOSS, LPOSSPlus

FILE = 'lposs_tiny'
NAMES = ('native', 'wide', 'slide', 'slide_bg', 'plus_native', 'plus_wide', 'plus_slide')
BACKGROUND = 3  # words of the first class, in slide_bg


def cases(golden: Golden) -> Iterator[Case]:
    for name in NAMES:
        if golden.has(FILE, f'{name}_scores'):
            yield from one(golden, name)


def one(golden: Golden, name: str) -> Iterator[Case]:
    def told(field: str, other: int | None = None) -> np.ndarray:
        names = (f'{name}_{field}', f'{name.removeprefix("plus_")}_{field}')
        found = [golden.array(FILE, key) for key in names if golden.has(FILE, key)]
        return found[0] if found else other

    size, original = (tuple(map(int, told(field))) for field in ('hw', 'ori'))
    slides, plus = 'slide' in name, name.startswith('plus')
    kind = LPOSSPlus if plus else LPOSS
    method = kind(guide=guide(golden, 'dino16', 'v'), neighbours=int(told('k', 400)), parity=True)
    model = segmentor(
        golden,
        method,
        backbone=dict(position_offset=0.0),
        test_cfg=dict(crop_size=224, stride=112) if slides else dict(crop_size=size, stride=size),
    )
    encoder = model.backbone

    @cache
    def scores() -> Tensor:
        picture = encoder.from_pixels(golden.pixels(int(golden.array(FILE, 'seed')), *size))
        (seen,) = model._look(picture, [SegDataSample()])
        if slides or plus:
            found = model._refined(seen, size, model._context(seen, size))(0, size[0])
        else:  # the whole picture at once goes straight to its original size there
            found = seen.cosines[0, 0]
        if name.endswith('bg'):
            found = torch.cat([found[:BACKGROUND].amax(0, keepdim=True), found[BACKGROUND:]])
        return interpolate(found[None], size=original, mode='bilinear')[0]

    step = 12 if slides else 8
    # Two nodes of `slide` have their 400th and 401st neighbour within 1e-6.
    tolerance = 1e-3 if plus or slides else 1e-4
    yield Case(
        'lposs', FILE, f'{name}_scores', lambda: scores()[:, ::step, ::step], tolerance=tolerance
    )
    yield Case('lposs', FILE, f'{name}_pred', lambda: scores().argmax(0), strays=0.01)
    if not slides:
        picture = encoder.from_pixels(golden.pixels(int(golden.array(FILE, 'seed')), *size))
        yield Case('lposs', FILE, f'{name}_maskclip_cos', lambda: first(golden, model, picture))
        yield Case('lposs', FILE, f'{name}_dino_v', lambda: values(method, model, picture))


def first(golden: Golden, model, picture: Tensor) -> Tensor:
    """Scores before propagation, (h, w, 8)."""
    features = model.backbone.dense(picture, attention=model.method)
    return (normalize(features[0], dim=0).permute(1, 2, 0)) @ queries(golden).T


def values(method: LPOSS, model, picture: Tensor) -> Tensor:
    """Every second unit feature of the guide, in rows and columns."""
    seen = look(method.guide, model.backbone.to_pixels(picture))
    return seen.x[0].unflatten(0, seen.grid)[::2, ::2]

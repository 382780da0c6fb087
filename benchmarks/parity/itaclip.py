"""ITACLIP's image side: one view, the views' mean, and cosines of all views."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
from golden import Case, Golden, rows
from torch import Tensor
from torch.nn.functional import interpolate

from mmseg_siglip.models.dense import build_method

FILE = 'more_tiny12'
PICTURES = dict(native=(31, 224, 224), wide=(32, 224, 336))


def cases(golden: Golden) -> Iterator[Case]:
    def dense(picture: str, views: float | None) -> Tensor:
        method = build_method(dict(type='itaclip', views=views))
        return golden.clip().dense(golden.picture(*PICTURES[picture]), attention=method)

    def logits(picture: str, weight: float) -> Tensor:
        text = torch.from_numpy(golden.array(FILE, 'text'))
        cosines = torch.einsum('bdhw,qd->bqhw', dense(picture, weight), text)
        pixels = interpolate(cosines, size=PICTURES[picture][1:], mode='bilinear')
        return pixels[0, :, ::8, ::8]

    for picture in PICTURES:
        alone = partial(dense, picture, None)
        yield Case('itaclip', FILE, f'itaclip_{picture}', lambda of=alone: rows(of()))
        mean = partial(dense, picture, 1.0)
        yield Case(
            'itaclip', FILE, f'itaclip_views_mean_{picture}', lambda of=mean: rows(of(), unit=False)
        )
        yield Case('itaclip', FILE, f'itaclip_logits_{picture}', partial(logits, picture, 0.75))

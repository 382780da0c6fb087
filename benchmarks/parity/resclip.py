"""ResCLIP on its three hosts."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache, partial

import numpy as np
import torch
from golden import Case, Golden, rows
from torch import Tensor

from mmseg_siglip.models.backbones.tokens import Tokens
from mmseg_siglip.models.backbones.trunk import Surroundings, Trunk
from mmseg_siglip.models.dense import build_method
from mmseg_siglip.models.dense.semantic_feedback import connected, region_rows

FILE = 'resclip_tiny12'
PICTURES = dict(native=(31, 224, 224), wide=(32, 224, 336))
BLUR_SEEN = slice(1, 8)


def cases(golden: Golden) -> Iterator[Case]:
    @cache
    def trunk(picture: str) -> Trunk:
        text = torch.from_numpy(golden.array(FILE, 'queries'))
        known = Surroundings(text=lambda: text, logit_scale=40.0)
        return golden.clip().trunk(golden.picture(*PICTURES[picture]), surroundings=known)

    def method(host: str, **options):
        return build_method(
            dict(type='resclip', host=host, rcs=(2.0, 0.3), temp_thd=0.45, parity=True, **options)
        )

    def features(host: str, picture: str, **options) -> Tensor:
        found = method(host, **options)(trunk(picture))
        return rows(golden.clip().project(found))

    @cache
    def labels(host: str, picture: str) -> Tensor:
        first: Tokens = method(host, sfr=None)(trunk(picture))
        return method(host).first_labels(first, trunk(picture))[0]

    def mask_rows(picture: str) -> Tensor:
        found = region_rows(labels('naclip', picture), parity=True)
        return torch.nn.functional.pad(found, (1, 0, 1, 0))[BLUR_SEEN]

    def paths(picture: str) -> np.ndarray:
        found = connected(labels('naclip', picture), slice(None), parity=True)
        return np.packbits(found.flatten(2).flatten(0, 1).numpy())

    for picture in PICTURES:
        for host in ('sclip', 'clearclip', 'naclip'):
            for key, run in (
                (f'{host}_{picture}', partial(features, host, picture)),
                (f'{host}_rcs_only_{picture}', partial(features, host, picture, sfr=None)),
                (f'{host}_map_{picture}', partial(labels, host, picture)),
            ):
                yield Case('resclip', FILE, key, run)
        yield Case('resclip', FILE, f'naclip_sfr_{picture}', partial(mask_rows, picture))
        yield Case('resclip', FILE, f'naclip_valid_{picture}', partial(paths, picture))

"""CLIPtrase: features, correlation, clusters and their vote."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache, partial
from math import exp

import torch
from golden import Case, Golden, rows
from torch import Tensor
from torch.nn.functional import interpolate

from mmseg_siglip.models.backbones.planes import whole
from mmseg_siglip.models.backbones.tokens import Tokens
from mmseg_siglip.models.backbones.trunk import Surroundings, Trunk
from mmseg_siglip.models.dense import build_method
from mmseg_siglip.models.dense.cliptrase import CLUSTERS, correlation
from mmseg_siglip.models.dense.cluster_pixels import cluster_map

FILE = 'cliptrase_tiny12'
PICTURES = dict(native=(31, 224, 224), wide=(32, 224, 336))
SEEN = slice(None, None, 4)


def cases(golden: Golden) -> Iterator[Case]:
    @cache
    def trunk(picture: str) -> Trunk:
        text = torch.from_numpy(golden.array('resclip_tiny12', 'queries'))
        known = Surroundings(text=lambda: text, logit_scale=exp(4.6052))
        return golden.clip().trunk(golden.picture(*PICTURES[picture]), surroundings=known)

    def method(size: int = 224, **options):
        found = CLUSTERS[size]
        return build_method(
            dict(type='cliptrase', eps=found['eps'], least=found['least'], parity=True, **options)
        )

    def features(picture: str) -> Tensor:
        tokens = method(vote=False)(trunk(picture))
        line = Tokens(tokens.x, (1, tokens.x.shape[1]))  # CLS among them
        return rows(golden.clip().project(line))

    @cache
    def points(picture: str) -> Tensor:
        return correlation(trunk(picture))[0]

    def labels(picture: str, size: int) -> Tensor:
        return method(size).clusters(points(picture))

    def size_of(picture: str) -> tuple[int, int]:
        return PICTURES[picture][1:]

    def before(picture: str) -> Tensor:
        cosines = trunk(picture).cosines(method(vote=False)(trunk(picture)))
        return interpolate(cosines, size=size_of(picture), mode='bilinear')[0].argmax(0)

    def places(picture: str) -> Tensor:
        return cluster_map(
            points(picture), labels(picture, 224), trunk(picture).grid, size_of(picture)
        )

    def after(picture: str) -> Tensor:
        return whole(method()(trunk(picture)))[0].argmax(0)

    def seen(of, picture: str) -> Tensor:
        return of(picture)[SEEN, SEEN]

    for picture in PICTURES:
        yield Case('cliptrase', FILE, f'feat_{picture}', partial(features, picture))
        yield Case('cliptrase', FILE, f'corr_{picture}', lambda p=picture: points(p)[::7])
        for size, found in CLUSTERS.items():
            key = f'labels_{picture}_{found["eps"]}_{found["least"]}'
            yield Case('cliptrase', FILE, key, partial(labels, picture, size))
        for key, of in (('pred_before', before), ('cluster', places), ('pred_after', after)):
            yield Case('cliptrase', FILE, f'{key}_{picture}', partial(seen, of, picture))

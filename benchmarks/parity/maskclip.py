"""MaskCLIP's prompt denoising and key smoothing, one behind the other."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
from golden import Case, Golden
from torch import Tensor

from mmseg_siglip.models.postprocessors import PromptDenoising
from mmseg_siglip.models.postprocessors.context import Context
from mmseg_siglip.models.scores.key_smoothing import smooth

FILE = 'functions'
SCALE = 100.0


def nothing() -> list:
    return []


def cases(golden: Golden) -> Iterator[Case]:
    def refined(denoising: float, smoothing: float) -> Tensor:
        cosines, keys = (torch.from_numpy(golden.array(FILE, f'mc_{key}')) for key in ('cos', 'k'))
        context = Context(
            query_to_class=range(cosines.shape[1]),
            logit_scale=SCALE,
            pixels=nothing,
            features=nothing,
            text=nothing,
        )
        cosines = PromptDenoising(threshold=denoising)(cosines, cosines, context)
        if not smoothing:
            return cosines
        return smooth((SCALE * cosines).softmax(1), keys, smoothing, parity=True)

    for denoising in (0.0, 0.5):
        for smoothing in (0.0, 0.4, 1.0):
            key = f'mc_pd{denoising}_ks{smoothing}'
            yield Case('MaskCLIP', FILE, key, partial(refined, denoising, smoothing))

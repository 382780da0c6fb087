"""SC-CLIP and SFP, which share most of their way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import copy
from functools import partial

import torch
from golden import Case, Golden, rows
from torch import Tensor

from mmseg_siglip.models.dense import SCCLIP, SFP
from mmseg_siglip.models.dense.outliers import outlier_factor, repair
from mmseg_siglip.models.dense.sfp import attention_paid
from mmseg_siglip.models.dense.similarity import Similarity

PICTURES = dict(native=(31, 224, 224), wide=(32, 224, 336))
STAGES = 'scclip_sfp_stages_native'


def cases(golden: Golden) -> Iterator[Case]:
    for name, picture in PICTURES.items():
        look = Look(golden, picture)
        for key in (f'scclip_{name}', f'scclip_asis_{name}'):
            yield Case('sc_clip', 'scclip_tiny12', key, look.features(SCCLIP()), 1e-5)
        yield Case('sc_clip', 'scclip_tiny12', f'scclip_outliers_{name}', look.outliers(SCCLIP()))
        yield Case('sc_clip', 'scclip_tiny12', f'scclip_lof_{name}', look.factor)
        for detector in ('som', 'l2', 'lof'):
            method, key = SFP(detector=detector, parity=True), f'sfp_{detector}'
            yield Case('sfp', 'sfp_tiny12', f'{key}_{name}', look.features(method), 1e-5)
            yield Case(
                'sfp', 'sfp_tiny12', f'{key}_outliers_{name}', look.outliers(method), ordered=False
            )
        yield Case('sfp', 'sfp_tiny12', f'sfp_som_clsrow_{name}', look.cls_row, 1e-5)
        yield Case('sfp', 'sfp_tiny12', f'sfp_som_diag_{name}', look.diagonal, 1e-5)
    look = Look(golden, PICTURES['native'])
    for name, key, method in (
        ('sc_clip', 'scclip', SCCLIP()),
        ('sfp', 'sfp_som', SFP(parity=True)),
    ):
        stages = (look.mended, look.both, look.levels)
        for number, stage in enumerate(stages, start=1):
            yield Case(name, STAGES, f'{key}_agg{number}', partial(stage, method))


class Look:
    """What is recorded of one picture."""

    def __init__(self, golden: Golden, picture: tuple[int, int, int]) -> None:
        self.golden, self.picture = golden, picture

    def trunk(self):
        return self.golden.clip().trunk(self.golden.picture(*self.picture))

    def features(self, method: SCCLIP) -> Callable[[], Tensor]:
        picture = self.picture
        return lambda: rows(
            self.golden.clip().dense(self.golden.picture(*picture), attention=method)
        )

    def outliers(self, method: SCCLIP) -> Callable[[], Tensor]:
        def find() -> Tensor:
            trunk = self.trunk()
            return method.outliers(trunk, trunk.input(-1)[:, 1:])[0].nonzero().flatten()

        return find

    def factor(self) -> Tensor:
        return outlier_factor(self.trunk().input(-1)[:, 1:])[0]

    def cls_row(self) -> Tensor:
        return 1.5 * attention_paid(self.trunk())[0][0]

    def diagonal(self) -> Tensor:
        return attention_paid(self.trunk())[1][0]

    def mended(self, method: SCCLIP) -> Tensor:
        """The first of three times that tokens are averaged."""
        trunk = self.trunk()
        trunk.keep([8])
        patches = trunk.input(-1)[:, 1:]
        found = method.outliers(trunk, patches)
        fine, similar = (
            repair(x, found, trunk.grid, lonely=method.lonely)
            for x in (patches, trunk.output(8)[:, 1:])
        )
        return Similarity(similar).aggregate(fine, method.threshold)[0]

    def both(self, method: SCCLIP) -> Tensor:
        """The second; the third was added to it in place before it was recorded."""
        return method(self.trunk()).x[0]

    def levels(self, method: SCCLIP) -> Tensor:
        """The third: what is left of both where the second mixes nothing but its CLS token."""
        trunk = self.trunk()
        post = Similarity(trunk.output(3)[:, 1:])
        alone = copy(method)
        alone.blend = lambda sharp, q, k, v: torch.zeros_like(v)
        nothing = trunk.last.qkv()[2][:, :, 1:] * 0
        rest = trunk.last.out(nothing) + 0.3 * trunk.input(-1)[:, :1]
        return (alone(self.trunk()).x - post.aggregate(rest, method.threshold))[0]

"""SC-CLIP and SFP, which share most of their way."""

from collections.abc import Callable, Iterator

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
    yield Case('sc_clip', STAGES, 'scclip_agg1', look.aggregated(SCCLIP()))
    yield Case('sfp', STAGES, 'sfp_som_agg1', look.aggregated(SFP(parity=True)))


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

    def aggregated(self, method: SCCLIP) -> Callable[[], Tensor]:
        """The first of three times that tokens are averaged."""

        def run() -> Tensor:
            trunk = self.trunk()
            trunk.keep([8])
            patches = trunk.input(-1)[:, 1:]
            found = method.outliers(trunk, patches)
            mended, similar = (
                repair(x, found, trunk.grid) for x in (patches, trunk.output(8)[:, 1:])
            )
            return Similarity(similar).aggregate(mended, method.threshold)[0]

        return run

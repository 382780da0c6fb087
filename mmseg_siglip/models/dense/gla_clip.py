"""GLA-CLIP, https://github.com/2btlFe/GLA-CLIP: ProxyCLIP's windows see one another.

Shapes: n windows of M cells, N = n * M, R of them as queries, G channels of the guide.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import inf, log

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from mmseg_siglip.models.backbones.trunk import Trunk
from mmseg_siglip.models.dense.correlation import mean_cosine, proxy, share_values
from mmseg_siglip.models.dense.guided import GUIDE, Guided
from mmseg_siglip.registry import DENSE_METHODS

SLIDE = dict(short_side=336, crop_size=224, stride=112, method=dict(rho=0.55))
PUBLISHED = dict(
    voc21=dict(SLIDE, prob_thd=0.1),
    voc20=SLIDE,
    context60=dict(SLIDE, prob_thd=0.1),
    context59=SLIDE,
    coco_object=dict(SLIDE, prob_thd=0.1),
    coco_stuff=SLIDE,
    cityscapes=dict(SLIDE, short_side=560),
    ade20k=SLIDE,
)
"""Settings of its repository; its scripts say rho 0.6, as its text does, and run with 0.55."""


@DENSE_METHODS.register_module(name='gla_clip')
class GLACLIP(Guided):
    """Every cell shares values with the cells of all windows of its image.

    A cell's place is taken by an anchor, the mean feature of what is nearer to it than `rho`,
    `steps` times over. A = softmax((S - max(m, 0) (1 + spread ln(1 + n))) (1 + focus / c)) where
    that is not negative, S the cosines of a cell's anchor with all cells, m their mean and c how
    many are in the last anchor; the nearest always stays. Cells where windows overlap count as
    often as they are seen.

    Args:
        guide: See `Guided`.
        rho: See above; the published figures are of 0.55, by a setting that its scripts lose.
        steps: See above.
        spread: See the formula, lambda 1.
        focus: See the formula, lambda 2.
        static: Without anchors, as ProxyCLIP over all windows: softmax(gamma (S - beta m)), m the
            mean over all pairs.
        beta: Of `static`.
        gamma: Of `static`.

    Raises:
        ValueError: `steps` is below 1.
    """

    scope = 'image'

    def __init__(
        self,
        guide: str | Mapping | nn.Module = GUIDE,
        *,
        rho: float = 0.6,
        steps: int = 2,
        spread: float = 0.3,
        focus: float = 30.0,
        static: bool = False,
        beta: float = 1.2,
        gamma: float = 3.0,
    ) -> None:
        if steps < 1:
            raise ValueError(f'gla_clip: expected steps of 1 or more, found {steps}')
        super().__init__(guide)
        self.rho, self.steps, self.spread, self.focus = rho, steps, spread, focus
        self.static, self.beta, self.gamma = static, beta, gamma

    def forward(self, trunk: Trunk) -> Tensor:
        seen = self.look(trunk)
        count, cells = seen.x.shape[:2]
        features = seen.x.flatten(0, 1)
        mean = mean_cosine(features[None])

        def weigh(cosines: Tensor, windows: slice, queries: slice) -> Tensor:
            if self.static:
                return proxy(cosines, mean, beta=self.beta, gamma=self.gamma, first=queries.start)
            return self.weights(cosines[0], features, queries, count)[None]

        def mix(values: Tensor) -> Tensor:
            shared = share_values(features[None], values.flatten(0, 1)[None], weigh)
            return shared[0].unflatten(0, (count, cells))

        return trunk.last.read(self.attend(trunk, seen.grid, mix), seen.grid)

    def weights(self, cosines: Tensor, features: Tensor, queries: slice, windows: int) -> Tensor:
        """A's rows.

        Args:
            cosines: (R, N), of the queries' own features with all.
            features: (N, G), unit.
            queries: Which they are.
            windows: n.

        Returns:
            (R, N).
        """
        for _ in range(self.steps):
            near = cosines > self.rho
            alone = ~near.any(1)
            near.diagonal(queries.start).logical_or_(alone)
            size = near.sum(1, keepdim=True)
            anchors = normalize(near.to(features) @ features / (size + 1e-6), dim=1)
            cosines = anchors @ features.T
        mean = cosines.mean(1, keepdim=True).clamp(min=0)
        logits = cosines - mean * (1 + self.spread * log(1 + windows))
        logits = logits * (1 + self.focus / size)
        least = logits.amax(1, keepdim=True).clamp(max=0)
        return torch.where(logits < least, -inf, logits).softmax(1)

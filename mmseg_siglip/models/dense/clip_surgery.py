"""CLIP Surgery, https://arxiv.org/abs/2304.05653: a second path by values, and a score step.

Shapes: B images, N = P + h*w tokens, Q words, D joint channels.
"""

from __future__ import annotations

from torch import Tensor

from mmseg_siglip.models.backbones.block import attend
from mmseg_siglip.models.backbones.tokens import Tokens
from mmseg_siglip.models.backbones.trunk import Trunk
from mmseg_siglip.models.dense.dual_path import DUAL_BLOCKS, check_dual_blocks, dual_path
from mmseg_siglip.models.dense.method import DenseMethod
from mmseg_siglip.models.scores.feature_surgery import feature_surgery
from mmseg_siglip.registry import DENSE_METHODS

SETTINGS = dict(
    image_sizes=((224, 224), (512, 512)),
    backbone=dict(position_mode='bilinear', position_offset=0.0),
)
"""Settings of https://github.com/xmed-lab/CLIP_Surgery, commit d4696d4, for heat maps of pictures
squashed to a square, in 85 templates. Its segmentation was never released, so figures of others are
of their own making.
For the reader and parity: no protocol takes them."""


@DENSE_METHODS.register_module(name='clip_surgery')
class CLIPSurgery(DenseMethod):
    """A second path of softmax(v vᵀ / √d) v beside the last six blocks, see `dual_path`; words then
    lose what they have in common, see `FeatureSurgery`.

    The published code takes squares alone. It puts the ordinary path's CLS token in front of the
    patches; that one's vector is `Trunk.pooled`, and what is given here are patches.

    Args:
        blocks: Blocks with a second path.
        feature_surgery: Whether words lose what they have in common. That runs the ordinary path
            to its end, too.
    """

    sites = ('trunk',)
    reads = 'v'

    def __init__(self, *, blocks: int = DUAL_BLOCKS, feature_surgery: bool = True) -> None:
        super().__init__()
        self.dual_blocks, self.operates = check_dual_blocks(blocks), feature_surgery

    @property
    def scores(self) -> bool:
        return self.operates

    def forward(self, trunk: Trunk) -> Tokens:
        path = dual_path(trunk, self.dual_blocks, lambda normed, q, k, v: attend(v, v, v))
        return Tokens(path[:, trunk.prefix :], trunk.grid)

    def score(self, cosines: Tensor, features: Tensor, trunk: Trunk) -> Tensor:
        return feature_surgery(cosines, features, trunk) if self.operates else cosines

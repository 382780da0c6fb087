"""A dense method: what an encoder does to give patch features that words can be compared with.

Image-text contrastive training aligns the pooled vector with text and lets patches mix freely, so
each patch token describes the image rather than its place. Most methods change only the last
attention, and differ in which tokens mix (`mix`) and in what is added around it (`residual`,
`ffn`). The others override `forward`.

Shapes: B images or windows, H heads, N = P + h*w tokens (P prefix tokens, such as CLS, come first),
d per head, C channels, D joint channels, Q words.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor, nn

from mmseg_siglip.models.backbones.block import Residual
from mmseg_siglip.models.backbones.planes import Dense
from mmseg_siglip.models.backbones.site import SITES
from mmseg_siglip.models.backbones.tokens import Tokens
from mmseg_siglip.models.backbones.trunk import Trunk

if TYPE_CHECKING:
    from mmseg_siglip.models.backbones.base import VisionLanguageBackbone


class DenseMethod(nn.Module):
    """One row of the family; a subclass changes `mix`, or the whole of `forward`.

    A second model belongs into a `mmseg_siglip.models.guides.Frozen`, so that its weights neither
    train nor enter checkpoints. Means, quantiles and thresholds are taken over one element of the
    batch, or over one image (`scope`), never over the batch.

    Attributes:
        residual: Whether the last block's input is added; ``'cls'`` adds the CLS token's to all.
        ffn: Whether the last block's feed-forward part follows.
        reads: Which of ``q``, ``k`` and ``v`` of the last block the result depends on.
        scope: ``'window'``: a batch holds any windows of any images. ``'image'``: a batch holds all
            windows of one image, and no other.
        gives: What `forward` returns. ``'tokens'``: `Tokens` of the trunk, which the encoder
            projects; ``'features'``: (B, D, h, w) of the joint space; ``'cosines'``: `Planes` of
            (Q, h, w) for each element, or (B, Q, h, w), where no features stand behind a pixel.
        whole: Of a method with scope ``'image'``: whether it gives one map for the image instead of
            one for each window, (1, ..., h, w).
        windows: Whether it is given the windows of a segmentor; else images in one piece.
        sites: Where it can work, see `mmseg_siglip.models.backbones.site`.
        normalise: Whether features are brought to unit length before they meet words.
        uses_regions: Whether it asks for `Trunk.regions`.
        uses_guide: Whether it takes a second model, `guide`.
        refiners: Postprocessors that are part of it, in front of all others.
        pools: Whether it asks for the encoder's own vector of an image or of its regions, which all
            of the encoder is read for.
    """

    residual: Residual = False
    ffn: bool = False
    reads: str = 'qkv'
    scope: Literal['window', 'image'] = 'window'
    gives: Literal['tokens', 'features', 'cosines'] = 'tokens'
    whole: bool = False
    windows: bool = True
    sites: Sequence[str] = SITES
    normalise: bool = True
    uses_regions: bool = False
    uses_guide: bool = False
    pools: bool = False

    def __init__(self) -> None:
        super().__init__()
        self.refiners = nn.ModuleList()

    def check(self, encoder: VisionLanguageBackbone) -> None:
        """Refuse an encoder that lacks what the method needs.

        Raises:
            ValueError: The method cannot work on it.
        """

    def prepare(self, pixels: Tensor) -> Any:
        """What is made once of a whole image (3, H, W), RGB in [0, 1]; see `Trunk.prepared`."""

    def mix(self, q: Tensor, k: Tensor, v: Tensor, trunk: Trunk) -> Tensor:
        """Three (B, H, N, d) to (B, H, N, d), in place of the last attention."""
        raise NotImplementedError(f'{type(self).__name__} replaces no attention')

    def forward(self, trunk: Trunk) -> Tokens | Dense:
        """All blocks, the last attention with `mix`; see `gives`."""
        return trunk.last.run(self)

    def score(self, cosines: Tensor, features: Tensor, trunk: Trunk) -> Tensor:
        """What words get at last, of what they have by their cosines with features: (B, Q, h, w) to
        the same. `features` (B, D, h, w) are not normalised; `trunk` is that of `forward`."""
        return cosines

    @property
    def site(self) -> str:
        """Where it works on an encoder with a pooling head unless told otherwise: without the
        residual a patch of the trunk says little there (see docs/family.md)."""
        if len(self.sites) == 1:
            return self.sites[0]
        return 'trunk' if self.residual else 'head'

    @property
    def prepares(self) -> bool:
        """Whether `prepare` makes anything."""
        return type(self).prepare is not DenseMethod.prepare

    @property
    def scores(self) -> bool:
        """Whether `score` does anything."""
        return type(self).score is not DenseMethod.score

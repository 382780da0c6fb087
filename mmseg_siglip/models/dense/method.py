"""A dense method: what an encoder does to give patch features that words can be compared with.

Image-text contrastive training aligns the pooled vector with text and lets patches mix freely, so
each patch token describes the image rather than its place. Most methods change only the last block,
and differ in which tokens mix (`mix`) and in what is added around it (`residual`, `ffn`).

Shapes: B images or windows, H heads, N = P + h*w tokens (P prefix tokens, such as CLS, come first),
d per head, C channels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor, nn

from mmseg_siglip.models.backbones.block import Residual
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
    """

    residual: Residual = False
    ffn: bool = False
    reads: str = 'qkv'
    scope: Literal['window', 'image'] = 'window'

    def check(self, encoder: VisionLanguageBackbone) -> None:
        """Refuse an encoder that lacks what the method needs.

        Raises:
            ValueError: The method cannot work on it.
        """

    def prepare(self, pixels: Tensor) -> Any:
        """What is made once of a whole image (3, H, W), RGB in [0, 1]; see `Trunk.prepared`."""

    def mix(self, q: Tensor, k: Tensor, v: Tensor, trunk: Trunk) -> Tensor:
        """Three (B, H, N, d) to (B, H, N, d), in place of the last block's attention."""
        raise NotImplementedError(f'{type(self).__name__} replaces no attention')

    def forward(self, trunk: Trunk) -> Tokens:
        """All blocks, the last with `mix`."""
        last = len(trunk.blocks) - 1
        return Tokens(trunk.run(last, trunk.input(last), self), trunk.grid, trunk.prefix)

    @property
    def prepares(self) -> bool:
        """Whether `prepare` makes anything."""
        return type(self).prepare is not DenseMethod.prepare

    @property
    def only_mixes(self) -> bool:
        """Whether the method is all in `mix`, so that another attention than the trunk's last, such
        as a pooling head's, can be replaced by it."""
        return type(self).forward is DenseMethod.forward

"""What a postprocessor may ask for beside images and cosines.

Shapes: B images, Q query words, D joint channels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property

from torch import Tensor

from mmseg_siglip.models.backbones.trunk import NO_REGIONS


def no_regions() -> Sequence[Tensor]:
    raise ValueError(NO_REGIONS)


class Context:
    """Computes what is asked for, when it is asked for, once.

    Args:
        query_to_class: Class of each word.
        logit_scale: Factor on cosines.
        pixels: Gives B images (3, H', W'), RGB in [0, 1].
        features: Gives B of (D, h, w), not normalised, two cells a patch.
        text: Gives (Q, D), unit length.
        words: The Q words themselves.
        regions: Gives B of (H, W) int64 or (M, H, W) bool, of the output's size.
    """

    def __init__(
        self,
        *,
        query_to_class: Sequence[int],
        logit_scale: float,
        pixels: Callable[[], Sequence[Tensor]],
        features: Callable[[], Sequence[Tensor]],
        text: Callable[[], Tensor],
        words: Sequence[str] = (),
        regions: Callable[[], Sequence[Tensor]] = no_regions,
    ) -> None:
        self.query_to_class, self.logit_scale, self.words = query_to_class, logit_scale, words
        self._pixels, self._features, self._text = pixels, features, text
        self._regions = regions

    @cached_property
    def pixels(self) -> Sequence[Tensor]:
        """B of (3, H', W'), RGB in [0, 1]."""
        return self._pixels()

    @cached_property
    def features(self) -> Sequence[Tensor]:
        """B of (D, h, w), not normalised, for who has said so by ``needs_features``."""
        return self._features()

    @cached_property
    def text(self) -> Tensor:
        """(Q, D), unit length."""
        return self._text()

    @cached_property
    def regions(self) -> Sequence[Tensor]:
        """B of (H, W) int64, 0 is none, or where they overlap (M, H, W) bool."""
        return self._regions()

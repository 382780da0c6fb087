"""Regions that words found: SAM 3's instances, https://arxiv.org/abs/2511.16719.

Shapes: Q query words, M regions, SAM 3's masks (h, w), an image of (H, W) pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from mmengine.model import BaseModule
from torch import Tensor
from torch.nn.functional import interpolate

from mmseg_siglip.models.finite import require_finite
from mmseg_siglip.models.labelling import owners
from mmseg_siglip.models.sam.geometry import Size
from mmseg_siglip.models.sam.proposals import Proposals
from mmseg_siglip.precision import PRECISIONS, autocast
from mmseg_siglip.registry import MODELS


@MODELS.register_module()
class SAM3Regions(BaseModule):
    """The things that SAM 3 finds for each word: regions that know their class.

    Args:
        sam: Config of a `SAM3Adapter`.
        min_score: Least score of a region, with its word's presence; SAM 3's own is 0.5.
        max_masks: So many, by score, are kept.
        precision: Number format of SAM 3.

    Raises:
        ValueError: A number is out of range or the precision unknown.

    Attributes:
        asks_words: Tells a segmentor that its words are wanted.
        supervised: SAM 3 learnt from masks of concepts.
    """

    asks_words = supervised = True

    def __init__(
        self,
        sam: Mapping,
        *,
        min_score: float = 0.5,
        max_masks: int = 1000,
        precision: str = 'fp32',
    ) -> None:
        super().__init__()
        if not 0 <= min_score <= 1:
            raise ValueError(f'SAM3Regions: expected min_score in [0, 1], found {min_score}')
        if max_masks < 1:
            raise ValueError(f'SAM3Regions: expected max_masks of 1 or more, found {max_masks}')
        if precision not in PRECISIONS:
            raise ValueError(f'precision: expected one of {PRECISIONS}, found {precision!r}')
        self.sam = MODELS.build(sam).requires_grad_(False)
        self.min_score, self.max_masks, self.precision = min_score, max_masks, precision
        self._words: tuple[str, ...] = ()
        self.register_buffer('_text', None, persistent=False)
        self.register_load_state_dict_post_hook(lambda module, _: module.forget_text())

    def forget_text(self) -> None:
        self._words, self._text = (), None

    def text_of(self, words: Sequence[str]) -> Tensor:
        """Embeddings of words, computed once for the same words and unchanged weights."""
        if self._text is None or self._words != tuple(words):
            with torch.inference_mode(False), torch.no_grad():
                self._text = self.sam.encode_text(words)
            self._words = tuple(words)
        return self._text

    @torch.no_grad()
    def forward(
        self,
        pixels: Tensor,
        *,
        words: Sequence[str] = (),
        query_to_class: Sequence[int] | None = None,
        **dense,
    ) -> Proposals:
        """Find words in an image.

        Args:
            pixels: (3, H, W), RGB in [0, 1].
            words: Q of them.
            query_to_class: Class of each word; each is its own by default.
            dense: What a dense prediction knows, which words do not ask for.

        Returns:
            Proposals with the class of each, by falling score.

        Raises:
            ValueError: There are no words.
            NotFinite: A score or a logit is no number.
        """
        with autocast(self.precision, pixels.device):
            text, seen = self.text_of(words), self.sam.encode(pixels)
            classes = range(len(words)) if query_to_class is None else query_to_class
            owner, best, step = owners(classes, pixels.device), None, self.sam.words_per_batch
            for part in (slice(first, first + step) for first in range(0, len(text), step)):
                found = self.sam.find(seen, text[part])
                require_finite('SAM 3', found.scores, found.masks)
                good = (found.scores > self.min_score) & (found.masks > 0).flatten(2).any(2)
                owned = owner[part][:, None].expand_as(good)
                good = good.nonzero(as_tuple=True)
                new = found.masks[good], found.scores[good], owned[good]
                best = (
                    new
                    if best is None
                    else [torch.cat(pair) for pair in zip(best, new, strict=True)]
                )
                order = best[1].argsort(descending=True, stable=True)[: self.max_masks]
                best = [values[order] for values in best]
        logits, scores, labels = best
        return Proposals(logits, scores, stretched, labels)


def stretched(logits: Tensor, size: Size) -> Tensor:
    """Masks (m, h, w) over an image that was stretched to them, at its size: (m, H, W)."""
    return interpolate(logits[None], size=size, mode='bilinear')[0]

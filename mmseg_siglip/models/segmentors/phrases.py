"""The phrases of a batch of images, one after the other.

Shapes: B images, P phrases of an image, R of all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from mmseg.structures import SegDataSample
from torch import Tensor


@dataclass(frozen=True)
class Phrases:
    """R phrases, those of an image side by side.

    Attributes:
        of_image: B lists of phrases, of any lengths.
    """

    of_image: Sequence[Sequence[str]]

    @classmethod
    def of(cls, samples: Sequence[SegDataSample]) -> Phrases:
        """The ``text`` of each sample.

        Raises:
            ValueError: A sample has none.
        """
        texts = [sample.metainfo.get('text') for sample in samples]
        for index, text in enumerate(texts):
            if not isinstance(text, (list, tuple)) or not text or not all(map(_is_phrase, text)):
                raise ValueError(
                    f'image {index} of the batch: expected text, a list of one or more phrases, '
                    f'in its metainfo, found {text!r}'
                )
        return cls([list(text) for text in texts])

    def take(self, images: Sequence[int]) -> Phrases:
        """Those of some images, which count from 0 again."""
        return Phrases([self.of_image[i] for i in images])

    @property
    def texts(self) -> list[str]:
        """R phrases."""
        return [text for texts in self.of_image for text in texts]

    @property
    def owners(self) -> list[int]:
        """The image of each, (R,)."""
        return [image for image, texts in enumerate(self.of_image) for _ in texts]

    def parts(self, step: int) -> list[slice]:
        """All phrases, at most `step` at a time."""
        count = sum(map(len, self.of_image))
        return [slice(first, first + step) for first in range(0, count, step)]

    def split(self, parts: Sequence[Tensor | None]) -> Sequence[Tensor | None]:
        """What `parts` gave, (n, ...) each, to one (P, ...) an image; None stays None."""
        if parts[0] is None:
            return [None] * len(self.of_image)
        return torch.cat(list(parts)).split([len(texts) for texts in self.of_image])


def _is_phrase(text: object) -> bool:
    return isinstance(text, str)

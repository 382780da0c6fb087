"""A part to train on and a part to validate on, of images that come without lists."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence

PARTS = ('train', 'val')
Pair = tuple[str, str | None]


def check_part(part: str | None, held_out: float | None) -> None:
    """Refuse what `pairs_of_part` cannot choose by.

    Raises:
        ValueError: There is no such part or share, or one of the two is missing.
    """
    if (part is None) != (held_out is None):
        raise ValueError(
            f'expected part and held_out together, found part={part!r} and held_out={held_out!r}'
        )
    if part is None:
        return
    if part not in PARTS:
        raise ValueError(f'part: expected one of {", ".join(PARTS)}, found {part!r}')
    if not isinstance(held_out, float) or not 0 < held_out < 1:
        raise ValueError(f'held_out: expected a share between 0 and 1, found {held_out!r}')


def pairs_of_part(
    pairs: Sequence[Pair], part: str | None, held_out: float | None, folder: str
) -> list[Pair]:
    """The images of one part, each with its truth, in their order.

    Images are ranked by the SHA-256 of their names without suffixes; the first `held_out` of them,
    rounded, are ``val``, all others ``train``. So the parts are the same wherever the files lie.

    Args:
        pairs: All of them.
        part: Which; None for all.
        held_out: Share of the images that is for validation.
        folder: Of the images, which names are relative to.

    Raises:
        ValueError: There are too few images for two parts.
    """
    if part is None:
        return list(pairs)
    ranked = sorted({_rank(image, folder) for image, _ in pairs})
    count = round(held_out * len(ranked))
    if not 0 < count < len(ranked):
        raise ValueError(
            f'{folder}: held_out={held_out} of {len(ranked)} images leaves {count} to validate on '
            f'and {len(ranked) - count} to train on: expected some of both'
        )
    held = set(ranked[:count])
    return [pair for pair in pairs if (_rank(pair[0], folder) in held) == (part == 'val')]


def _rank(image: str, folder: str) -> str:
    name = os.path.splitext(os.path.relpath(image, folder))[0].replace(os.sep, '/')
    return hashlib.sha256(name.encode()).hexdigest()

"""What an ONNX file of ours says of itself: JSON in its metadata, read as data."""

from __future__ import annotations

import json
import math
import reprlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from mmseg_siglip.models.sizes import MOST_SIDE

KEY, VERSION = 'mmseg_siglip', 1
KINDS = ('dense', 'cat_seg', 'depth', 'tower')
WEIGHTS = ('float32', 'int8')


@dataclass(frozen=True)
class GraphFacts:
    """What a graph takes and gives, and what of its system stays outside.

    Attributes:
        kind: One of `KINDS`.
        patch: Side of a patch, pixels.
        native: (H, W) in pixels that its encoder was trained on.
        size: (H, W) that it takes; None, any in whole patches.
        batched: Whether it takes any number of images at once, or one.
        mean, std: Three values each, RGB, in units of 0..255, by which images are normalised.
        channels: Of its first output.
        weights: One of `WEIGHTS`, those of its matrix products.
        words: The words of each class that it was written for; none of a graph without words.
        model: What stays outside, as arguments of the model that the system has in torch.
        settings: Of the system, see `System.settings`.
        own: What only its kind has.
    """

    kind: str
    patch: int
    native: tuple[int, int]
    size: tuple[int, int] | None
    batched: bool
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    channels: int
    weights: str = 'float32'
    words: tuple[tuple[str, ...], ...] = ()
    model: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    own: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        return json.dumps(dict(version=VERSION, **asdict(self)), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str, where: object) -> GraphFacts:
        """Read what `to_json` wrote, or a stranger.

        Raises:
            ValueError: It is something else; the sentence begins with `where`.
        """
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ValueError(f'{where}: expected JSON as {KEY!r}, found none ({error})') from error
        if type(data) is not dict or data.pop('version', None) != VERSION:
            raise ValueError(f'{where}: expected version {VERSION} of the format, found another')
        names = [one.name for one in fields(cls)]
        if strange := sorted(data.keys() ^ set(names)):
            raise ValueError(
                f'{where}: expected {", ".join(names)}, found a difference in {strange[0]!r}'
            )
        for name, good in (
            ('kind', data['kind'] in KINDS),
            ('weights', data['weights'] in WEIGHTS),
            ('batched', type(data['batched']) is bool),
            *((name, _is_count(data[name])) for name in ('patch', 'channels')),
            ('native', _is_size(data['native'])),
            ('size', data['size'] is None or _is_size(data['size'])),
            *((name, _is_colour(data[name])) for name in ('mean', 'std')),
            ('std', min(data['std'], default=0) > 0),
            ('words', _are_words(data['words'])),
            *((name, type(data[name]) is dict) for name in ('model', 'settings', 'own')),
        ):
            if not good:
                found = reprlib.repr(data[name])
                raise ValueError(f'{where}: expected another {name} of a graph, found {found}')
        tuples = {name: tuple(data[name]) for name in ('native', 'mean', 'std')}
        tuples['size'] = data['size'] and tuple(data['size'])
        tuples['words'] = tuple(map(tuple, data['words']))
        return cls(**(data | tuples))

    @property
    def queries(self) -> tuple[str, ...]:
        """All words, class after class."""
        return tuple(word for words in self.words for word in words)


def _is_count(value: object) -> bool:
    return type(value) is int and 1 <= value <= MOST_SIDE


def _is_size(value: object) -> bool:
    return type(value) is list and len(value) == 2 and all(map(_is_count, value))


def _is_colour(value: object) -> bool:
    return (
        type(value) is list
        and len(value) == 3
        and all(type(part) in (int, float) and math.isfinite(part) for part in value)
    )


def _are_words(value: object) -> bool:
    return type(value) is list and all(
        type(words) is list and words and all(type(word) is str for word in words)
        for words in value
    )


def size_text(size: Sequence[int]) -> str:
    """``64x96 pixels (height x width)``."""
    return f'{size[0]}x{size[1]} pixels (height x width)'

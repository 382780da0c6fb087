"""What makes rows of images: a system with what it is asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from mmseg_siglip.later import Later
from mmseg_siglip.lazy import resolve

if TYPE_CHECKING:
    from mmseg_siglip.api.system import System

Row = dict[str, Any]


class ShardLabeller(Protocol):
    """What is done to each image of a shard.

    Attributes:
        columns: What its rows have beside those of `mmseg_siglip.labelling.rows`: name to Arrow's
            name of the type.
        settings: What rows depend on, as plain values.
    """

    columns: Mapping[str, str]
    settings: Mapping[str, Any]

    def decode(self, data: bytes, place: str) -> Any:
        """An image, of which ``shape`` begins with height and width.

        Raises:
            ValueError: It cannot be decoded; the message begins with `place`.
        """

    def begin(self, images: Sequence[Any]) -> Later[Sequence[Any]]:
        """What is found in each image, of no use but for `rows`; a GPU may still look for it."""

    def rows(self, found: Any) -> list[Row]:
        """Those of one image; called by several threads at once, while more images are labelled."""


Recipe = Callable[[int, int], ShardLabeller]
"""Number of a worker, and of how many on its machine, to a labeller; it can be pickled.

Raises ValueError or OSError where no worker could be made.
"""


@dataclass(frozen=True)
class LazyRecipe:
    """A recipe whose module is imported where a labeller is made, and nowhere else.

    Attributes:
        place: ``module:function``.
        arguments: Of the function, before the two numbers.
    """

    place: str
    arguments: tuple

    def __call__(self, number: int, count: int) -> ShardLabeller:
        return resolve(self.place)(*self.arguments, number, count)


class SystemLabeller:
    """A system and its prompt.

    Args:
        system: The system.
        prompt: What it is asked.
        settings: See `ShardLabeller`.
        options: Of its call.
        row: Makes a row of a result.
    """

    def __init__(
        self,
        system: System,
        prompt: Any,
        *,
        settings: Mapping[str, Any],
        options: Mapping[str, Any] | None = None,
        row: Callable[[Any], Row] = lambda result: result.to_row(),
    ) -> None:
        self.system, self.prompt = system, system.check_prompt(prompt)
        self.columns, self.settings, self.row = system.gives.columns, settings, row
        self.options = dict(options or {})

    def decode(self, data: bytes, place: str) -> Any:
        """RGB (H, W, 3) uint8."""
        from mmseg_siglip.io.image import decode_rgb  # which takes PyTorch along

        return decode_rgb(data, place)

    def begin(self, images: Sequence[Any]) -> Later[list[Any]]:
        """A result of each image, or one for each phrase in it."""
        return self.system.begin(list(images), self.prompt, **self.options)

    def rows(self, found: Any) -> list[Row]:
        """Of results: PNG is made here."""
        return [self.row(result) for result in (found if isinstance(found, list) else [found])]

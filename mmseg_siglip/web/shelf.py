"""What is kept for a while in memory, under names that nobody can guess."""

from __future__ import annotations

import secrets
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from mmseg_siglip.web.limits import Limits, Refusal


class Kept(Protocol):
    """Something of a size."""

    @property
    def num_bytes(self) -> int: ...


Thing = TypeVar('Thing', bound=Kept)


@dataclass(frozen=True)
class Shelved(Generic[Thing]):
    """A thing and when it was put there."""

    thing: Thing
    since: float


class Shelf(Generic[Thing]):
    """The newest things: the oldest go when it is full, and each when its time is over.

    Args:
        limits: How many bytes, and for how long.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._held: OrderedDict[str, Shelved[Thing]] = OrderedDict()

    def __len__(self) -> int:
        self._sweep()
        return len(self._held)

    def put(self, thing: Thing) -> str:
        """The name under which it can be had again."""
        name = secrets.token_urlsafe(16)
        self._held[name] = Shelved(thing, time.monotonic())
        self._sweep()
        return name

    def get(self, name: str) -> Thing:
        """Raises: Refusal: It is not, or no longer, there."""
        self._sweep()
        if name not in self._held:
            raise Refusal('this is no longer kept here; please choose the image again', 404)
        return self._held[name].thing

    def _sweep(self) -> None:
        oldest = time.monotonic() - self.limits.kept_seconds
        size = sum(held.thing.num_bytes for held in self._held.values())
        for name, held in [*self._held.items()]:
            if held.since > oldest and size <= self.limits.kept_bytes:
                return
            size -= held.thing.num_bytes
            del self._held[name]

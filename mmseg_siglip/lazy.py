"""Names that are offered now and imported when they are used."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from typing import Any


def resolve(place: str) -> Any:
    """The object behind ``module:name``."""
    module, _, name = place.partition(':')
    return getattr(import_module(module), name)


class LazyMapping(Mapping[str, Any]):
    """A mapping whose values are imported when they are looked up, and by nothing else.

    Args:
        places: What `resolve` takes, by key.
    """

    def __init__(self, places: Mapping[str, str]) -> None:
        self._places = dict(places)

    def __getitem__(self, key: str) -> Any:
        return resolve(self._places[key])

    def __contains__(self, key: object) -> bool:
        return key in self._places

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


def lazy(
    module: str, offered: Mapping[str, Sequence[str]]
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """``__getattr__`` (PEP 562), ``__dir__`` and ``__all__`` of a module.

    Args:
        module: Its ``__name__``.
        offered: Names, by the module that has them.
    """
    places = {name: f'{place}:{name}' for place, names in offered.items() for name in names}

    def find(name: str) -> Any:
        if name not in places:
            raise AttributeError(f'module {module!r} has no attribute {name!r}')
        return resolve(places[name])

    return find, lambda: sorted(places), sorted(places)

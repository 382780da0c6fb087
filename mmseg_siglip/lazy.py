"""Names that a package offers and imports when they are used (PEP 562)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def resolve(place: str) -> Any:
    """The object behind ``module:name``, or the module where there is no name."""
    module, _, name = place.partition(':')
    found = import_module(module)
    return getattr(found, name) if name else found


def lazy(
    package: str, places: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """``__getattr__``, ``__dir__`` and ``__all__`` of a package.

    Args:
        package: Its ``__name__``.
        places: What `resolve` takes, by the name that the package offers.
    """

    def find(name: str) -> Any:
        if name not in places:
            raise AttributeError(f'module {package!r} has no attribute {name!r}')
        return resolve(places[name])

    return find, lambda: sorted(places), sorted(places)

"""Results that a GPU may still be working on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

T, R = TypeVar('T'), TypeVar('R')


class Later(Generic[T]):
    """A result that is waited for where it is called.

    Args:
        result: Gives it, or raises.

    Attributes:
        ready: Whether nothing is waited for.

    Examples:
        >>> from mmseg_siglip.later import Later
        >>> found = Later(lambda: 20, ready=True).then(lambda value: value + 1)
        >>> found(), found.ready
        (21, True)
    """

    def __init__(self, result: Callable[[], T], *, ready: bool) -> None:
        self._result, self.ready = result, ready

    @classmethod
    def now(cls, value: T) -> Later[T]:
        """What is there already."""
        return cls(lambda: value, ready=True)

    @classmethod
    def failed(cls, error: Exception) -> Later[T]:
        """What there will not be: called, it raises."""

        def fail() -> T:
            raise error

        return cls(fail, ready=True)

    def __call__(self) -> T:
        return self._result()

    def then(self, function: Callable[[T], R]) -> Later[R]:
        """What `function` makes of it, once it is there."""
        return Later(lambda: function(self()), ready=self.ready)

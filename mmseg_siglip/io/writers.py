"""Files that threads write while the next results are computed."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import ParamSpec

P = ParamSpec('P')
THREADS = 4
AHEAD = 16
PENDING: set[Future] = set()
"""The calls of all `Writers` that have not come to their end."""


class Writers:
    """Threads for calls that encode and write a file each.

    What was asked for is written, also where the program ends with an error before `finish`: the
    interpreter sees to it, or, before it is ended without its last steps, `wait_for_all`.

    Args:
        threads: How many.
        ahead: Calls that may wait; the next one waits for the oldest.
    """

    def __init__(self, threads: int = THREADS, ahead: int = AHEAD) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix='writer')
        self._ahead = ahead
        self._waiting: deque[Future] = deque()

    def __call__(
        self, function: Callable[P, object], /, *args: P.args, **options: P.kwargs
    ) -> None:
        """Have a thread call `function`.

        Raises:
            Exception: What an earlier call has raised, of which this one is not made.
        """
        while self._waiting and (len(self._waiting) >= self._ahead or self._waiting[0].done()):
            self._waiting.popleft().result()
        future = self._pool.submit(function, *args, **options)
        PENDING.add(future)
        future.add_done_callback(PENDING.discard)
        self._waiting.append(future)

    @property
    def waiting(self) -> tuple[Future, ...]:
        """The calls that may not have come to their end."""
        return tuple(self._waiting)

    def finish(self) -> None:
        """Wait until all is written.

        Raises:
            Exception: What a call has raised, the first of several.
        """
        waiting, self._waiting = self._waiting, deque()
        errors = [error for future in waiting if (error := future.exception()) is not None]
        if errors:
            raise errors[0]


def wait_for_all() -> None:
    """Wait until all calls of all `Writers` were made, whatever they raised."""
    wait(list(PENDING))

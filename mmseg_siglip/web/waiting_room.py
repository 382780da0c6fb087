"""One request is computed at a time, and few wait for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from anyio.to_thread import run_sync

from mmseg_siglip.web.limits import Refusal

T = TypeVar('T')


class WaitingRoom:
    """Runs functions one after the other, each in a thread.

    Args:
        waiting: How many may wait.
    """

    def __init__(self, waiting: int) -> None:
        self.waiting = waiting
        self.inside = 0
        self._lock = asyncio.Lock()

    async def __call__(self, function: Callable[..., T], *args) -> T:
        """`function`'s result, when its turn has come.

        Raises:
            Refusal: As many wait already as may.
        """
        if self.inside > self.waiting:
            raise Refusal(f'{self.waiting} requests are waiting already; try again soon', 503)
        self.inside += 1
        try:
            async with self._lock:
                return await run_sync(function, *args)
        finally:
            self.inside -= 1

"""What glibc keeps of memory that threads have freed."""

from __future__ import annotations

import ctypes
import os

MOST = 2
M_ARENA_MAX = -8  # of malloc.h


def limit_arenas(most: int = MOST) -> bool:
    """Have the threads to come share pools of memory.

    glibc makes up to eight for each core and returns little of what lies in one: under the load of
    `benchmarks/serve.py` the process grew by a third though it held no more.

    Args:
        most: Pools, that of the main thread included.

    Returns:
        Whether it was set: not for other C libraries, nor where MALLOC_ARENA_MAX says how many.
    """
    if 'MALLOC_ARENA_MAX' in os.environ:
        return False
    mallopt = getattr(ctypes.CDLL(None), 'mallopt', None)
    return mallopt is not None and mallopt(M_ARENA_MAX, most) == 1

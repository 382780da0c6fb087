"""What somebody who misspelt a name may have meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def did_you_mean(name: object, names: Iterable[str], *, likeness: float = 0.6) -> str:
    """The end of a sentence that asks for the nearest of some names, or nothing.

    Args:
        name: What was given.
        names: What there is.
        likeness: How near a name has to be, 0 to 1, as `difflib` measures it.
    """
    found = difflib.get_close_matches(str(name), list(names), n=1, cutoff=likeness)
    return f'; did you mean {found[0]!r}?' if found else ''

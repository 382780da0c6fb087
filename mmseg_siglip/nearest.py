"""What somebody who misspelt a name may have meant."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Collection, Iterable


def did_you_mean(name: object, names: Iterable[str], *, likeness: float = 0.6) -> str:
    """The end of a sentence that asks for the nearest of some names, or nothing.

    Args:
        name: What was given.
        names: What there is.
        likeness: How near a name has to be, 0 to 1, as `difflib` measures it.
    """
    found = difflib.get_close_matches(str(name), list(names), n=1, cutoff=likeness)
    return f'; did you mean {found[0]!r}?' if found else ''


def check_options(
    options: Iterable[str], *takers: Callable, but: Collection[str] = (), what: str
) -> None:
    """Refuse options that none of some functions takes by its name.

    Args:
        options: Names.
        takers: Functions or classes.
        but: Arguments of theirs that are no options.
        what: What the options are of, for the error.

    Raises:
        ValueError: There is such an option; the sentence names the nearest that there is.
    """
    parameters = [p for taker in takers for p in inspect.signature(taker).parameters.values()]
    named = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    names = dict.fromkeys(p.name for p in parameters if p.kind in named and p.name not in but)
    for option in options:
        if option not in names:
            raise ValueError(
                f'{what}: unknown option {option!r}; expected one of '
                f'{", ".join(names)}{did_you_mean(option, names)}'
            )

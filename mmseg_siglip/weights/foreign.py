"""Other libraries at work on a checkpoint's files: no code of its own runs, and what goes wrong is
one sentence."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from transformers import dynamic_module_utils

ASIDE = (KeyboardInterrupt, SystemExit, GeneratorExit)
NO_CODE = 'it needs code of its own, which is never run'


@contextmanager
def as_data(source: object, what: str) -> Iterator[None]:
    """Read what a stranger wrote.

    Libraries fail in as many ways as files can be wrong, tokenizers even with a panic that is no
    `Exception`: all of them become a `ValueError`. transformers asks on the terminal whether to run
    a checkpoint's code where a call of its own does not say that it may not; here it refuses.

    Args:
        source: What is read.
        what: What messages say of it, in brackets after it the library's own reason.

    Raises:
        ValueError: Whatever is raised within.
    """
    patience = dynamic_module_utils.TIME_OUT_REMOTE_CODE
    dynamic_module_utils.TIME_OUT_REMOTE_CODE = 0  # it has no time to ask
    try:
        yield
    except ASIDE:
        raise
    except BaseException as error:
        reason = NO_CODE if 'trust_remote_code' in str(error) else first_line(error)
        raise ValueError(f'{source}: {what} ({reason})') from error
    finally:
        dynamic_module_utils.TIME_OUT_REMOTE_CODE = patience


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its type."""
    if isinstance(error, KeyError):
        return f'there is no {error}'
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__

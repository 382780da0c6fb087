"""What of a run's log is for people to watch; all of it is in the file."""

from __future__ import annotations

import logging
import re

FILE_ONLY = re.compile(
    r'\s*(-+\s+System environment:|Config:\s|Hooks will be executed|paramwise_options -- |'
    r'Distributed training is not used|Exp name: |The prefix is not set in metric class |'
    r'"FileClient" will be deprecated|"HardDiskBackend" is the alias|'
    r'\S+ is skipped since its requires_grad=False)'
)
"""How MMEngine's messages begin that describe itself, the machine and the config."""


def for_screen(record: logging.LogRecord) -> bool:
    return not FILE_ONLY.match(record.getMessage())


def quieten(logger: logging.Logger, level: int | str | None = None) -> None:
    """Keep `FILE_ONLY` from the screen, unless the log is that of a search for faults.

    Args:
        logger: MMEngine's.
        level: Of the least message for the screen.
    """
    for handler in logger.handlers:
        if isinstance(handler, logging.FileHandler) or handler.level <= logging.DEBUG:
            continue
        if for_screen not in handler.filters:
            handler.addFilter(for_screen)
        if level is not None:
            handler.setLevel(max(handler.level, logging.getLevelName(level)))

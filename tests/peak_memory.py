"""What a call costs in memory, measured in a child that has all imports behind it."""

from __future__ import annotations

import multiprocessing
import resource
from collections.abc import Callable


def refusal(call: Callable[[], object]) -> tuple[str | None, int]:
    """The `ValueError` of a call, if it raises one, and by how many megabytes it let memory grow at
    its highest."""
    context = multiprocessing.get_context('fork')
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_measure, args=(call, sender))
    process.start()
    sender.close()
    said, megabytes = receiver.recv()
    process.join()
    return said, megabytes


def _measure(call: Callable[[], object], sender) -> None:
    at_rest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        call()
        said = None
    except ValueError as error:
        said = str(error)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - at_rest
    sender.send((said, grown // 1024))

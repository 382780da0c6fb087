"""A process of its own that answers requests, and whose death is seen."""

from __future__ import annotations

import multiprocessing
import os
import signal
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from mmseg_siglip.ending import end_with
from mmseg_siglip.io.failures import OutputError

Handler = Callable[[Any, Callable[[int], None]], Any]
"""A request, and what to call with how much is done, to an answer."""


@dataclass(frozen=True)
class Ready:
    """The process is built; its `hello` is what it says of itself."""

    hello: Any


@dataclass(frozen=True)
class Told:
    """So much more of a request is done."""

    count: int


@dataclass(frozen=True)
class Replied:
    """A request is done."""

    answer: Any


@dataclass(frozen=True)
class Unable:
    """No process could do it, and why."""

    reason: str


@dataclass(frozen=True)
class Died:
    """The process is gone, and how."""

    reason: str


Event = Ready | Told | Replied | Unable | Died


class Child:
    """A process, which starts at once.

    Args:
        build: In the process, makes what it says of itself, and its handler; it can be pickled. A
            ValueError, OSError, ImportError or KeyError of it is `Unable`.
    """

    def __init__(self, build: Callable[[], tuple[Any, Handler]]) -> None:
        context = multiprocessing.get_context('spawn')
        self.connection, other = context.Pipe()
        self.process = context.Process(target=live, args=(other, os.getpid(), build))
        self.process.start()
        other.close()

    def ask(self, request: Any) -> None:
        """Send a request; if the process is gone, `next` says so."""
        try:
            self.connection.send(request)
        except OSError:
            pass

    def next(self) -> Event:
        """What it says next; waits for it."""
        try:
            return self.connection.recv()
        except (EOFError, OSError):
            self.process.join()
            return Died(how_ended(self.process.exitcode))

    def close(self) -> None:
        self.process.kill()
        self.process.join()
        self.connection.close()


def how_ended(status: int | None) -> str:
    """``signal 9 (Killed)`` for -9."""
    if status is not None and status < 0:
        return f'signal {-status} ({signal.strsignal(-status)})'
    return f'exit status {status}'


def live(connection: Connection, parent: int, build: Callable[[], tuple[Any, Handler]]) -> None:
    """The life of a `Child`; it ends with its parent, and leaves Ctrl-C to it."""
    end_with(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        hello, handle = build()
    except (ValueError, OSError, ImportError, KeyError) as error:
        connection.send(Unable(reason_of(error)))
        return
    connection.send(Ready(hello))
    while True:
        try:
            request = connection.recv()
        except EOFError:
            return
        try:
            answer = handle(request, lambda count: connection.send(Told(count)))
        except OutputError as error:
            answer = Unable(str(error))
        except Exception as error:
            traceback.print_exc()
            connection.send(Died(reason_of(error)))
            os._exit(1)
        connection.send(answer if isinstance(answer, Unable) else Replied(answer))


def reason_of(error: Exception) -> str:
    """An error in one line."""
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    return ' '.join(text.split()) or type(error).__name__

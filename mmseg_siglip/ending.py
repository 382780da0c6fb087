"""How a command ends before its time: in one line, without a process left behind.

Nothing heavy is imported here.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import NoReturn

GRACE = 10.0
"""Seconds that an interrupted command has to unwind before it is ended where it stands."""

TRACEBACK_VARIABLE = 'MMSEG_SIGLIP_TRACEBACK'
"""Set to 1, every error keeps its traceback, and what fails for one image fails for all."""

INTERVAL = 1.0  # seconds between two looks at a parent

WORDS = {signal.SIGINT: 'interrupted', signal.SIGTERM: 'terminated'}


class Stopped(KeyboardInterrupt):
    """A signal asked the command to end."""


class Ending:
    """Ctrl-C and SIGTERM while a command runs: one line that says how to go on, status 130 or 143.

    A signal raises `Stopped` in the main thread. Where that cannot unwind, because a library waits
    for another process or swallows it, a second thread ends the process after `GRACE` seconds, or
    at the second signal. Signals that were ignored before stay so.

    Args:
        kept: Says what is kept and how to go on.

    Attributes:
        number: The signal that came, or None.
    """

    current: Ending | None = None

    def __init__(self, kept: Callable[[], str]) -> None:
        self.kept, self.number = kept, None
        self.before: dict[int, object] = {}
        self.lock, self.said = threading.Lock(), False

    def __enter__(self) -> Ending:
        self.outer, Ending.current = Ending.current, self
        if threading.current_thread() is threading.main_thread():
            usual = (signal.SIG_DFL, signal.default_int_handler)
            numbers = [number for number in WORDS if signal.getsignal(number) in usual]
            self.before = {number: signal.signal(number, self._stop) for number in numbers}
            self.wake, self.woken = os.pipe()
            os.set_blocking(self.woken, False)
            self.outer_wake = signal.set_wakeup_fd(self.woken, warn_on_full_buffer=False)
            threading.Thread(target=self._watch, args=(self.wake,), daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        Ending.current = self.outer
        if self.before:
            signal.set_wakeup_fd(self.outer_wake)
            for number, handler in self.before.items():
                signal.signal(number, handler)
            os.close(self.woken)

    def _stop(self, number: int, frame: object) -> None:
        if self.number is None:  # at the second, the other thread ends the process
            self.number = number
            raise Stopped(number)

    def _watch(self, wake: int) -> None:
        """End the process if the main thread does not; in a thread of its own, which takes no
        signal from the main thread, whose sleep it would not interrupt."""
        signal.pthread_sigmask(signal.SIG_BLOCK, WORDS)
        number = None
        while select.select([wake], [], [], GRACE if number else None)[0]:
            signals = os.read(wake, 64)
            if not signals:  # the command is over
                os.close(wake)
                return
            came = [one for one in signals if one in self.before]
            hurried = len(came) > 1 or (number and came)
            number = number or next(iter(came), None)
            if hurried:
                break
        self.number = number
        end_now(self.tell())

    def tell(self) -> int:
        """Say it, once; the exit status."""
        number = self.number or signal.SIGINT
        self.say(f'{WORDS[number]}: {self.kept()}')
        return 128 + number

    def say(self, line: str) -> None:
        """The last line on stderr, of whoever comes first; of several processes, of the first."""
        with self.lock:
            if not self.said and os.environ.get('RANK', '0') == '0':
                print(line, file=sys.stderr, flush=True)
            self.said = True


def end_children() -> None:
    """End the processes that this one started as workers, and wait for them."""
    multiprocessing = sys.modules.get('multiprocessing')
    children = multiprocessing.active_children() if multiprocessing else []
    if threading.current_thread() is threading.main_thread() and children:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # PyTorch's raises when a worker ends
    for child in children:
        child.terminate()
    for child in children:
        child.join(2)
        if child.is_alive():
            child.kill()
            child.join()


def end_now(status: int) -> NoReturn:
    """End the process without the interpreter's last steps; what is logged or printed is kept."""
    end_children()
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:  # whoever read it has gone
            pass
    os._exit(status)


def end_with(parent: int) -> None:
    """End this process when `parent` is gone, or the process that started this one for it."""
    starter = os.getppid()

    def watch() -> None:
        while os.getppid() == starter and _is_there(parent):
            time.sleep(INTERVAL)
        os._exit(1)

    threading.Thread(target=watch, name='watch of the parent', daemon=True).start()


def _is_there(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def forget_in_children() -> None:
    """A forked worker has the usual handlers, and does not wake its parent."""
    if Ending.current is not None:
        signal.set_wakeup_fd(-1)
        for number, handler in Ending.current.before.items():
            signal.signal(number, handler)
        Ending.current = None


os.register_at_fork(after_in_child=forget_in_children)

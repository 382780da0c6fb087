"""Attempts in processes of their own: timed, measured, and watched for what they execute."""

from __future__ import annotations

import ctypes
import faulthandler
import json
import os
import re
import resource
import signal
import socket
import sys
import traceback
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import NoReturn

from fuzz.kind import CANARY, MIB, Kind, Outcome

ROOT = Path(__file__).resolve().parents[2]
PRODUCT = ('mmseg_siglip', 'tools')
NO_MEMORY = re.compile(r'[Uu]nable to allocate|t allocate memory|out of memory')
ADDRESSES = 6 * 2**30  # bytes that an attempt may reserve at all, so that the machine survives
LARGEST_FILE = 2**30
FRAME = re.compile(r'File "([^"]+)", line (\d+)')


def attempts(
    kind: Kind, paths: Sequence[Path], folder: Path, *, seconds: float
) -> Iterator[Outcome]:
    """What becomes of each input.

    Args:
        kind: Of the inputs.
        paths: The inputs; `Kind.batch` of them share a process, as long as it lives.
        folder: For traces, and the empty one in which the processes run.
        seconds: Patience with each.
    """
    left = list(paths)
    while left:
        for outcome in _one_process(kind, left[: kind.batch], folder, seconds):
            left.pop(0)
            yield outcome


def _one_process(
    kind: Kind, paths: Sequence[Path], folder: Path, seconds: float
) -> Iterator[Outcome]:
    box, trace = folder / 'box', folder / 'trace'
    box.mkdir(exist_ok=True)
    trace.write_bytes(b'')
    reader, writer = Pipe(duplex=False)
    process = os.fork()
    if not process:
        reader.close()
        _read_all(kind, paths, box, trace, writer, seconds)
    writer.close()
    status = None
    try:
        for _ in paths:
            if not reader.poll(seconds):
                yield Outcome('hung', f'no answer in {seconds:g} s', _place_of_trace(trace))
                return
            try:
                found = Outcome(**json.loads(reader.recv_bytes()))
            except EOFError:
                _, status, usage = os.wait4(process, 0)
                yield _death(status, trace, box, usage.ru_maxrss * 1024 - _memory('VmRSS'))
                return
            yield found
    finally:
        reader.close()
        if status is None:
            _end(process)


def _end(process: int) -> None:
    """With all that it has started."""
    for target in (-process, process):
        try:
            os.kill(target, signal.SIGKILL)
        except ProcessLookupError:
            continue
    os.waitpid(process, 0)


def _death(status: int, trace: Path, box: Path, memory: int) -> Outcome:
    code = os.waitstatus_to_exitcode(status)
    how = signal.Signals(-code).name if code < 0 else f'exit status {code}'
    verdict = 'ran code' if _executed(box) else 'escaped'
    return Outcome(verdict, how, _place_of_trace(trace), max(memory, 0))


def _read_all(
    kind: Kind, paths: Sequence[Path], box: Path, trace: Path, writer: Connection, seconds: float
) -> NoReturn:
    """In the new process: never returns."""
    try:
        os.setsid()
        _confine(box)
        with trace.open('w') as file:
            faulthandler.enable(file)
            for path in paths:
                faulthandler.dump_traceback_later(0.9 * seconds, file=file)
                outcome = _read(kind, path)
                faulthandler.cancel_dump_traceback_later()
                writer.send_bytes(json.dumps(vars(outcome)).encode())
    finally:
        os._exit(0)


def _confine(box: Path) -> None:
    """An empty folder, bounds, silence, "y" for every question, and no network."""
    os.chdir(box)
    for file in box.iterdir():
        file.unlink()
    answers, nothing = os.pipe(), os.open(os.devnull, os.O_WRONLY)
    os.write(answers[1], b'y\n' * 1000)
    os.close(answers[1])
    os.dup2(answers[0], 0)
    os.dup2(nothing, 1)
    os.dup2(nothing, 2)
    sys.stdin = open(0, encoding='utf-8', closefd=False)
    sys.stdout = sys.stderr = open(1, 'w', encoding='utf-8', closefd=False)
    resource.setrlimit(resource.RLIMIT_AS, (_memory('VmSize') + ADDRESSES,) * 2)
    resource.setrlimit(resource.RLIMIT_FSIZE, (LARGEST_FILE,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    socket.socket.connect = _unreachable


def _unreachable(self: socket.socket, address: object) -> NoReturn:
    Path(CANARY).write_text(f'network: {address}')
    raise OSError(f'{address} cannot be reached')


def _executed(box: Path) -> list[str]:
    return sorted(file.name for file in box.iterdir())


def _memory(field: str) -> int:
    """Of this process, in bytes."""
    for line in Path('/proc/self/status').read_text().splitlines():
        name, _, value = line.partition(':')
        if name == field:
            return int(value.split()[0]) * 1024
    raise KeyError(field)


def _read(kind: Kind, path: Path) -> Outcome:
    ctypes.CDLL(None).malloc_trim(0)  # what is free in the heap could be taken unnoticed
    Path('/proc/self/clear_refs').write_text('5')  # the highest use of memory counts from here
    before = _memory('VmRSS')
    try:
        kind.attempt(path)
        verdict, error, place = 'accepted', '', ''
    except (ValueError, OSError) as raised:
        text = str(raised)
        clear = '\n' not in text.strip() and any(name in text for name in kind.names_of(path))
        verdict = 'hungry' if _ran_out(raised) else 'refused' if clear else 'unclear'
        error, place = _shown(raised), _place(raised)
    except MemoryError as raised:
        verdict, error, place = 'hungry', _shown(raised), _place(raised)
    except BaseException as raised:
        verdict, error, place = 'escaped', _shown(raised), _place(raised)
    memory = max(_memory('VmHWM') - before, 0)
    if memory > kind.memory:
        verdict, error = 'hungry', f'{memory // MIB} MiB, then {verdict} {error}'
    if made := _executed(Path()):
        verdict, error = 'ran code', f'made {", ".join(made)}, then {verdict} {error}'
        for file in made:
            Path(file).unlink()
    return Outcome(verdict, error, place, memory)


def _ran_out(error: BaseException) -> bool:
    """Whether an error, or one that it came from, is that there was no memory."""
    found = error
    while found is not None:
        if isinstance(found, MemoryError) or NO_MEMORY.search(str(found)):
            return True
        found = found.__cause__ or found.__context__
    return False


def _shown(error: BaseException) -> str:
    text = ' '.join(str(error).split())
    return f'{type(error).__name__}: {text[:300]}'


def _place(error: BaseException) -> str:
    frames = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    return _innermost(frames)


def _place_of_trace(trace: Path) -> str:
    """Of the thread that was in the product, in the last that `faulthandler` wrote."""
    last = re.split(
        r'^(?:Fatal Python error|Timeout)', trace.read_text(errors='replace'), flags=re.M
    )
    stacks = [
        [(file, int(line)) for file, line in FRAME.findall(stack)][::-1]
        for stack in last[-1].split('(most recent call first)')[1:]
    ]
    stacks.sort(key=lambda stack: not any(_is_ours(file) for file, _ in stack))
    return _innermost(stacks[0]) if stacks else ''


def _innermost(frames: Sequence[tuple[str, int]]) -> str:
    """``mmseg_siglip/io/image.py:40 (PIL/Image.py:3340)`` of outer to inner lines."""
    ours = [f'{Path(file).relative_to(ROOT)}:{line}' for file, line in frames if _is_ours(file)]
    last = ':'.join((file_name(frames[-1][0]), str(frames[-1][1]))) if frames else ''
    if not ours:
        return last
    return ours[-1] if not last or ours[-1].endswith(last) else f'{ours[-1]} ({last})'


def _is_ours(file: str) -> bool:
    path = Path(file)
    return path.is_relative_to(ROOT) and path.relative_to(ROOT).parts[0] in PRODUCT


def file_name(file: str) -> str:
    """The end of a path, from the package on."""
    parts = Path(file).parts
    for mark in ('site-packages', f'python{sys.version_info[0]}.{sys.version_info[1]}'):
        if mark in parts:
            last = len(parts) - 1 - parts[::-1].index(mark)
            return '/'.join(parts[last + 1 :])
    return '/'.join(parts[-2:])

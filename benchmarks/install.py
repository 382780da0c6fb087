"""Size and time of an installation, without extras and with each of them.

    python benchmarks/install.py                # prints the table of docs/install.md
    python benchmarks/install.py --extras demo  # one

Each is a new environment by uv at the tested versions, made twice: the first fills uv's cache, the
second is timed, so that the time is that of a machine and not that of a network.
"""

from __future__ import annotations

import argparse
import configparser
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Installation:
    """An environment that was made.

    Attributes:
        extra: Its name, or nothing.
        packages: How many distributions it holds.
        megabytes: Of all files, a file with several names once.
        seconds: From an empty folder, with every package in uv's cache.
    """

    extra: str
    packages: int
    megabytes: float
    seconds: float


def extras(root: Path = ROOT) -> list[str]:
    """The extras of setup.cfg."""
    setup = configparser.ConfigParser()
    setup.read(root / 'setup.cfg')
    return list(setup['options.extras_require'])


def megabytes(folder: Path) -> float:
    """What the files below a folder hold, in 10**6 bytes; links count nothing."""
    found = (os.lstat(Path(here, name)) for here, _, names in os.walk(folder) for name in names)
    return sum({(one.st_dev, one.st_ino): one.st_size for one in found}.values()) / 1e6


def install(extra: str, folder: Path, *, uv: str, root: Path = ROOT) -> Installation:
    """Make an environment, measure and delete it."""
    command = [uv, 'pip', 'install', '--quiet', '--python', str(folder / 'bin' / 'python')]
    command += ['--constraints', str(root / 'requirements' / 'constraints.txt')]
    command.append(f'{root}[{extra}]' if extra else str(root))
    for _ in range(2):
        make = [uv, 'venv', '--quiet', '--clear', '--no-project', '--python', sys.executable]
        subprocess.run([*make, str(folder)], check=True)
        begin = time.perf_counter()
        subprocess.run(command, check=True)
        seconds = time.perf_counter() - begin
    listing = [uv, 'pip', 'list', '--quiet', '--format', 'json', '--python', command[5]]
    listed = subprocess.run(listing, check=True, capture_output=True, text=True).stdout
    size = megabytes(folder)
    shutil.rmtree(folder)
    return Installation(extra, len(json.loads(listed)), size, seconds)


def table(rows: Iterable[Installation]) -> str:
    """Rows as Markdown."""
    lines = ['| extra | packages | GB | s |', '|---|--:|--:|--:|']
    lines += [
        f'| {f"`{row.extra}`" if row.extra else "none"} | {row.packages} | '
        f'{row.megabytes / 1000:.2f} | {row.seconds:.0f} |'
        for row in rows
    ]
    return '\n'.join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--extras', nargs='+', metavar='NAME', help='these alone [none, then each]')
    args = parser.parse_args()
    uv = shutil.which('uv', path=os.pathsep.join([str(Path(sys.executable).parent), os.defpath]))
    if uv is None:
        sys.exit('error: expected uv beside this Python, found none: pip install uv')
    version = '.'.join(map(str, sys.version_info[:3]))
    print(f'Python {version}, {datetime.now(timezone.utc).date().isoformat()}\n', flush=True)
    with tempfile.TemporaryDirectory() as folder:
        rows = [
            install(extra, Path(folder, 'environment'), uv=uv)
            for extra in args.extras or ['', *extras()]
        ]
    print(table(rows))


if __name__ == '__main__':
    main()

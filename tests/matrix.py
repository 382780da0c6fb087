"""Run a fast part of the tests on several versions of Python and libraries: make matrix.

    python tests/matrix.py                      # every environment
    python tests/matrix.py 3.12 --keep          # some, which stay for a closer look
    python tests/matrix.py 3.12 --tests tests/api/test_depth.py
    python tests/matrix.py --list

Each environment is built from the package's wheel by uv, from what the registry has, tested, and
deleted. `docs/compatibility.md` gets the table of all results so far. Python is never downloaded:
an interpreter that is not there is said to be missing. ``UV_TORCH_BACKEND=cpu`` takes PyTorch
without CUDA, from PyTorch's own index.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
DOCUMENT = ROOT / 'docs' / 'compatibility.md'
BEGIN, END = '<!-- begin: make matrix -->', '<!-- end: make matrix -->'
TEST_TOOLS = ('pytest', 'pytest-timeout', 'hypothesis', 'psutil', 'peft', 'segment-anything')
TESTS = (
    'tests/test_versions.py',
    'tests/test_registry.py',
    'tests/test_private_parts.py',
    'tests/test_compat.py',
    'tests/weights/test_checkpoint.py',
    'tests/models/backbones/test_clip.py',
    'tests/models/backbones/test_siglip.py',
    'tests/api/test_segment.py',
    'tests/models/test_data_preprocessor.py',
    'tests/engine/test_visualization_hook.py',
    'tests/vlm/test_tower.py',
    'tests/vlm/test_generation.py',
    'tests/vlm/test_tiles.py',
    'tests/cli/test_train.py',
)
NEVER = "python_version < '3'"
HOSTS = {
    'mmcv-lite': (),
    'mmcv': ('mmcv>=2.0.0rc4,<2.2',),
    'onedl': ('onedl-mmcv', 'onedl-mmengine', 'onedl-mmsegmentation'),
}
"""What stands in the place of mmcv-lite, mmengine and mmsegmentation."""
REPLACED = {'mmcv': ('mmcv-lite',), 'onedl': ('mmcv-lite', 'mmengine', 'mmsegmentation')}
COLUMNS = ('torch', 'transformers', 'mmcv', 'mmengine', 'mmsegmentation', 'numpy', 'pillow')


@dataclass(frozen=True)
class Environment:
    """Versions that go together.

    Attributes:
        python: Such as 3.12.
        torch: ``oldest`` that is allowed, or ``newest`` that the registry has for this Python.
        libraries: Likewise transformers and every other library with a lower bound.
        hosts: A key of `HOSTS`.
    """

    python: str
    torch: str
    libraries: str
    hosts: str = 'mmcv-lite'

    @property
    def name(self) -> str:
        """Such as ``3.12-torch_oldest-libraries_newest-onedl``."""
        return f'{self.python}-torch_{self.torch}-libraries_{self.libraries}-{self.hosts}'


ENVIRONMENTS = (
    Environment('3.10', 'oldest', 'oldest'),
    Environment('3.10', 'newest', 'newest', 'onedl'),
    Environment('3.11', 'oldest', 'newest', 'mmcv'),
    Environment('3.11', 'newest', 'oldest'),
    Environment('3.12', 'oldest', 'oldest', 'onedl'),
    Environment('3.12', 'newest', 'newest'),
    Environment('3.13', 'oldest', 'newest'),
    Environment('3.13', 'newest', 'oldest'),
)
"""Every Python meets both torches and both ends of the libraries, and so does each of `HOSTS`, but
for mmcv, whose C++17 no longer compiles with the newest torch."""


def oldest(path: Path) -> dict[str, str]:
    """The oldest release that each line ``name>=version`` of a requirements file allows."""
    bounds = re.findall(r'^([\w.-]+)>=([\d.]+)$', path.read_text(encoding='utf-8'), re.MULTILINE)
    return {
        name: f'{name}=={version}' + ('' if version.count('.') > 1 else '.*')
        for name, version in bounds
    }


def requirements(environment: Environment) -> tuple[list[str], list[str]]:
    """What to install beside the wheel, and what to put in the place of its own requirements."""
    bounds = oldest(ROOT / 'requirements' / 'runtime.txt')
    torch = bounds.pop('torch')
    wanted = [*TEST_TOOLS, *HOSTS[environment.hosts]]
    wanted += [torch] if environment.torch == 'oldest' else []
    wanted += bounds.values() if environment.libraries == 'oldest' else []
    return wanted, [f'{name}; {NEVER}' for name in REPLACED.get(environment.hosts, ())]


def find_uv() -> str:
    """uv beside this Python, or on PATH."""
    beside = Path(sys.executable).with_name('uv')
    found = str(beside) if beside.exists() else shutil.which('uv')
    if found is None:
        sys.exit('error: expected uv beside this Python or on PATH, found none: pip install uv')
    return found


def find_python(uv: str, version: str) -> str | None:
    """An interpreter of this version: uv's, on PATH, or pyenv's."""
    pyenv = Path(os.environ.get('PYENV_ROOT', Path.home() / '.pyenv'))
    folders = [str(path) for path in sorted(pyenv.glob(f'versions/{version}*/bin'))]
    path = os.pathsep.join([*folders, os.environ.get('PATH', '')])
    command = [uv, 'python', 'find', '--no-project', '--no-python-downloads', version]
    done = subprocess.run(command, env=dict(os.environ, PATH=path), capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else None


def beside(folder: Path, ending: str) -> Path:
    """A file named as a folder, whose name may hold dots, and an ending."""
    return folder.with_name(folder.name + ending)


class Failure(Exception):
    """A step that did not succeed, with its last words."""


def step(command: Sequence[str | Path], log: Path, **options: Any) -> str:
    """The output of a command, which also goes to the end of a log."""
    with log.open('a', encoding='utf-8') as file:
        print('$', *command, file=file, flush=True)
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options
        )
        file.write(done.stdout)
    if done.returncode:
        raise Failure(last_words(done.stdout))
    return done.stdout


def last_words(output: str) -> str:
    """One line: pytest's sum, with what failed, or the last line that says something."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    sums = [line for line in lines if re.search(r'\d (passed|failed|errors?)\b.* in [\d.]+s', line)]
    failed = re.findall(r'^(?:FAILED|ERROR) (\S+)', output, re.MULTILINE)
    last = (sums or lines or ['no output'])[-1]
    return '; '.join([re.sub(r'=+ | =+|, \d+ warnings?| in [\d.]+s.*$', '', last), *failed[:3]])


def install(environment: Environment, python: str, folder: Path, *, uv: str, wheel: Path) -> Path:
    """The Python of a new environment that holds the package and the test tools."""
    wanted, instead = requirements(environment)
    log, overrides = beside(folder, '.log'), beside(folder, '.overrides.txt')
    overrides.write_text('\n'.join(instead) + '\n', encoding='utf-8')
    step([uv, 'venv', '--clear', '--no-project', '--python', python, folder], log)
    into = [uv, 'pip', 'install', '--python', folder / 'bin' / 'python']
    if environment.hosts == 'mmcv':  # its setup.py needs torch, and pkg_resources of old setuptools
        torch = [text for text in wanted if text.startswith('torch==')] or ['torch']
        step([*into, *torch, 'setuptools<81', 'wheel', 'ninja', 'psutil', 'numpy'], log)
        built = ['--no-build-isolation-package', 'mmcv', '--refresh-package', 'mmcv']
        into, wanted = [*into, *built], [*wanted, 'setuptools<81']
    options = dict(os.environ, MMCV_WITH_OPS='1')
    step([*into, '--overrides', overrides, wheel, *wanted], log, env=options)
    return folder / 'bin' / 'python'


def versions(python: Path, *, uv: str) -> dict[str, str]:
    """What is installed, by the names of `COLUMNS`."""
    command = [uv, 'pip', 'list', '--format', 'json', '--python', str(python)]
    listed = json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout)
    by_name = {entry['name']: entry['version'] for entry in listed}
    found = {}
    for column in COLUMNS:
        for name in (column, f'{column}-lite', f'onedl-{column}'):
            if name in by_name:
                found[column] = by_name[name] if name == column else f'{name} {by_name[name]}'
    return found


def examine(
    environment: Environment, folder: Path, *, uv: str, wheel: Path, tests: Sequence[str] = TESTS
) -> dict[str, Any]:
    """Build, test: the row of an environment, which names the tests where they are not `TESTS`."""
    today = datetime.now(timezone.utc).date().isoformat()
    row: dict[str, Any] = dict(python=environment.python, date=today, good=False)
    python = find_python(uv, environment.python)
    if python is None:
        return dict(row, result=f'not run: no python{environment.python} was found')
    log = beside(folder, '.log')
    log.unlink(missing_ok=True)
    try:
        inside = install(environment, python, folder, uv=uv, wheel=wheel)
    except Failure as failure:
        return dict(row, result=f'not installed: {failure}')
    row.update(versions(inside, uv=uv))
    command = [inside, '-m', 'pytest', '-q', '-m', 'not slow', '-p', 'no:cacheprovider', *tests]
    these = '' if tuple(tests) == TESTS else f' of {", ".join(tests)}'
    try:
        return dict(row, result=last_words(step(command, log, cwd=ROOT)) + these, good=True)
    except Failure as failure:
        return dict(row, result=f'**failed**: {failure}')


def table(rows: Iterable[dict[str, Any]]) -> str:
    """A Markdown table."""
    heads = ('python', *COLUMNS, 'result', 'date')
    lines = [heads, ['---'] * len(heads)]
    lines += [[str(row.get(head, '')).replace('|', '\\|') for head in heads] for row in rows]
    return '\n'.join(f'| {" | ".join(line)} |' for line in lines)


def write_document(rows: Iterable[dict[str, Any]], document: Path) -> None:
    """Put the table between the marks of a document."""
    text = document.read_text(encoding='utf-8')
    head, rest = text.split(BEGIN)
    document.write_text(
        f'{head}{BEGIN}\n\n{table(rows)}\n\n{END}{rest.split(END)[1]}', encoding='utf-8'
    )


def chosen(names: Sequence[str]) -> list[Environment]:
    """The environments whose name holds one of the texts; all of them without any."""
    found = [one for one in ENVIRONMENTS if not names or any(text in one.name for text in names)]
    if not found:
        sys.exit(f'error: expected part of a name of --list, found {" ".join(names)}')
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('names', nargs='*', metavar='NAME', help='part of a name of --list [all]')
    parser.add_argument('--list', action='store_true', help='name the environments')
    parser.add_argument('--tests', nargs='+', metavar='FILE', default=TESTS, help='run these alone')
    parser.add_argument('--keep', action='store_true', help='delete no environment')
    parser.add_argument('--work-dir', type=Path, default=ROOT / 'work_dirs' / 'matrix')
    args = parser.parse_args()
    if args.list:
        print('\n'.join(one.name for one in ENVIRONMENTS))
        return 0
    environments, uv = chosen(args.names), find_uv()
    args.work_dir.mkdir(parents=True, exist_ok=True)
    results = args.work_dir / 'results.json'
    rows = json.loads(results.read_text(encoding='utf-8')) if results.exists() else {}
    shutil.rmtree(args.work_dir / 'dist', ignore_errors=True)
    build = [uv, 'build', '--wheel', '--out-dir', args.work_dir / 'dist', ROOT]
    step(build, args.work_dir / 'build.log')
    (wheel,) = (args.work_dir / 'dist').glob('*.whl')
    for environment in environments:
        folder = args.work_dir / environment.name
        row = examine(environment, folder, uv=uv, wheel=wheel, tests=args.tests)
        rows[environment.name] = row
        print(f'{environment.name}: {row["result"]}', flush=True)
        results.write_text(json.dumps(rows, indent=1) + '\n', encoding='utf-8')
        write_document([rows[one.name] for one in ENVIRONMENTS if one.name in rows], DOCUMENT)
        if not args.keep:
            shutil.rmtree(folder, ignore_errors=True)
    return int(not all(rows[one.name]['good'] for one in environments))


if __name__ == '__main__':
    sys.exit(main())

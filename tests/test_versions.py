from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest
from packaging.requirements import Requirement

from mmseg_siglip.versions import BELOW, FORKS, LEAST, numbers, unfit

FIT = {'torch': '2.6.0a0+git', 'transformers': '5.14.0', 'mmsegmentation': '1.2.2', 'mmcv': '2.1.0'}


def bounds(path):
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith('#')]
    return {one.name: str(one.specifier) for one in map(Requirement, lines)}


def test_the_bounds_are_those_of_the_requirements(repository):
    runtime = bounds(repository / 'requirements/runtime.txt')
    least = {name: text.removeprefix('>=') for name, text in runtime.items() if text}
    assert least == LEAST
    mm = bounds(repository / 'requirements/mm.txt')
    assert f'<{BELOW["mmcv-lite"]},' in mm['mmcv-lite'] and set(FORKS) < set(mm)


@pytest.mark.parametrize(
    ('found', 'sentence'),
    [
        ({'torch': '2.5.1+cpu'}, 'expected torch 2.6 or newer, found 2.5.1+cpu'),
        ({'transformers': '4.57.1'}, 'expected transformers 5.14 or newer, found 4.57.1'),
        ({'mmcv': '2.2.0'}, 'expected mmcv below 2.2 beside mmsegmentation, found 2.2.0'),
        ({'onedl-mmcv': '2.3.6'}, 'expected onedl-mmcv below 2.2 beside mmsegmentation'),
        (
            {'onedl-mmsegmentation': '1.4.2'},
            'expected one of mmsegmentation and onedl-mmsegmentation, found both',
        ),
    ],
)
def test_what_cannot_work_is_named(found, sentence):
    (said,) = unfit({**FIT, **found}.get)
    assert said.startswith(sentence)


def test_what_works_is_not():
    assert not list(unfit(FIT.get)) and not list(unfit({}.get))
    forks = {f'onedl-{name}': '9.0' for name in ('mmcv', *FORKS)}
    assert not list(unfit({'torch': '3.0', 'transformers': '5.100.0', **forks}.get))
    assert numbers('5.10.0') > numbers('5.3')


def test_importing_is_refused(repository, tmp_path):
    """Beside a distribution that calls itself an old torch."""
    metadata = tmp_path / 'torch-2.5.1.dist-info' / 'METADATA'
    metadata.parent.mkdir()
    metadata.write_text('Metadata-Version: 2.1\nName: torch\nVersion: 2.5.1\n')
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join([str(tmp_path), str(repository)]))
    done = subprocess.run(
        [sys.executable, '-m', 'mmseg_siglip', '--help'],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert re.fullmatch(r'ImportError: expected torch 2\.6 or newer, found 2\.5\.1; pip .*', last)

"""The notebooks run from the first cell to the last."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

NOTEBOOKS = sorted(Path(__file__).resolve().parents[2].glob('docs/notebooks/*.py'))


@pytest.mark.slow
@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook(path, repository, tmp_path):
    """By nbmake, in a process of its own: a kernel wants to talk to it over sockets."""
    jupytext = pytest.importorskip('jupytext')
    pytest.importorskip('nbmake')
    notebook = jupytext.read(path)
    notebook.metadata.kernelspec = dict(name='python3', display_name='Python 3', language='python')
    jupytext.write(notebook, tmp_path / f'{path.stem}.ipynb')
    done = subprocess.run(
        [sys.executable, '-m', 'pytest', '--nbmake', '--nbmake-timeout=300', '-q', '-p', 'no:xdist']
        + ['-c', os.devnull, '--rootdir', str(tmp_path), str(tmp_path)],
        cwd=tmp_path,
        env=os.environ | dict(PYTHONPATH=str(repository)),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and '1 passed' in done.stdout, done.stdout + done.stderr

"""An evaluation of many images takes no more memory at its end than near its beginning."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

IMAGES, WARM = 2000, 400
GROWTH = 0.05  # of the memory of a warm run


def resident(process: psutil.Process) -> int:
    """Bytes of a process and of those that it has started."""
    total = 0
    for one in (process, *process.children(recursive=True)):
        try:
            total += one.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_two_thousand_images(repository, tmp_path):
    out = tmp_path / 'out'
    command = [sys.executable, 'tools/test.py', 'configs/sclip/shapes.py', '--out', str(out)]
    command += ['--work-dir', str(tmp_path / 'work')]
    command += ['--cfg-options', f'test_dataloader.dataset.num_scenes={IMAGES}']
    log = tmp_path / 'log.txt'
    seen: dict[int, int] = {}
    with log.open('w') as file:
        run = subprocess.Popen(command, cwd=repository, stdout=file, stderr=file)
        process = psutil.Process(run.pid)
        while run.poll() is None:
            seen[done(out)] = resident(process)
            time.sleep(0.2)
    assert run.returncode == 0, log.read_text()[-2000:]
    assert done(out) == IMAGES
    warm = [memory for count, memory in seen.items() if WARM <= count < 2 * WARM]
    late = [memory for count, memory in seen.items() if IMAGES - WARM <= count < IMAGES]
    assert len(warm) > 5 and len(late) > 5
    assert max(late) < (1 + GROWTH) * max(warm), (max(warm), max(late))


def done(folder: Path) -> int:
    return sum(1 for _ in folder.glob('*.png'))

import os
import subprocess
import sys

import pytest


@pytest.mark.slow
@pytest.mark.parametrize(
    'options',
    [
        ['--format', 'png'],
        ['--format', 'coco', '--shards', '3', '--restart-processes', '1'],
    ],
    ids=['png', 'coco'],
)
def test_two_processes_killed_in_the_middle_lose_and_repeat_nothing(repository, options):
    script = [str(repository / 'benchmarks' / 'kill_and_restart.py')]
    result = subprocess.run(
        [sys.executable, *script, '--images', '120', '--sample', '10', *options],
        env=dict(os.environ, PYTHONPATH=str(repository)),
        capture_output=True,
        text=True,
        timeout=550,
    )
    assert result.returncode == 0, result.stdout + result.stderr[-3000:]
    assert result.stdout.count('ok: ') == 6 and 'FAILED' not in result.stdout

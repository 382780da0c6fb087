"""Ray's actors in the place of processes: the same rows, whoever is killed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from toy_labeller import KILLS, KillsWorkers, Recipe, Run, rows_of

from mmseg_siglip.io.failures import OutputError
from mmseg_siglip.labelling.drive import Drive, ShardTurns
from mmseg_siglip.labelling.ray_pool import RayPool, brief

pytest.importorskip('ray')


@pytest.fixture(autouse=True)
def path_of_tests(monkeypatch):
    monkeypatch.setenv('PYTHONPATH', os.pathsep.join(path for path in sys.path if path))


def actors():
    """Process ids of Ray's actors on this machine."""
    found = []
    for file in Path('/proc').glob('[0-9]*/cmdline'):
        try:
            if file.read_bytes().startswith(b'ray::Actor'):
                found.append(int(file.parent.name))
        except OSError:
            continue
    return found


class Killing(KillsWorkers, RayPool):
    most, often, seconds = 10, 0.6, 0.3

    def kill(self, worker):
        if there := actors():  # none while Ray starts them again
            os.kill(self.chance.choice(there), signal.SIGKILL)


@pytest.mark.slow
def test_kills_and_an_image_that_kills(tmp_path):
    run = Run(tmp_path, [*range(30), KILLS, *range(31, 60)], size=3)
    pool, told = Killing(run.settings(Recipe(seconds=0.05)), 2), []
    turns = ShardTurns(run.listing, run.store)
    total = Drive(turns, pool, run.store, told=told.append).run()
    rows, wanted = run.rows(), run.expected()
    assert rows.pop('030.png').startswith('ended the process that labelled it: signal 9')
    del wanted['030.png']
    assert rows == wanted and pool.kills == 10 and total.labelled == 59 <= sum(told)
    assert not actors()


@pytest.mark.slow
def test_what_no_actor_can_do(tmp_path):
    run = Run(tmp_path, range(4))
    with pytest.raises(ValueError, match='no such weights'):
        Drive(
            ShardTurns(run.listing, run.store),
            RayPool(run.settings(Recipe(refuse='no such weights')), 1),
            run.store,
        ).run()
    (tmp_path / 'out').mkdir()
    (tmp_path / 'out/shards').write_text('in the way')
    with pytest.raises(OutputError, match='cannot be written'):
        Drive(
            ShardTurns(run.listing, run.store), RayPool(run.settings(Recipe()), 1), run.store
        ).run()


CLUSTER = """
import sys
from pathlib import Path
from toy_labeller import Recipe, Run
from mmseg_siglip.labelling.drive import Drive, ShardTurns
from mmseg_siglip.labelling.ray_pool import RayPool
run = Run(Path(sys.argv[1]), range(20))
pool = RayPool(run.settings(Recipe()), 2, address=sys.argv[2])
print(Drive(ShardTurns(run.listing, run.store), pool, run.store).run())
"""


def test_without_ray(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, 'ray', None)
    run = Run(tmp_path, range(1))
    with pytest.raises(ImportError, match=r"needs Ray: pip install 'mmseg_siglip\[ray\]'"):
        RayPool(run.settings(Recipe()), 1)


def test_what_ray_says_in_a_line():
    assert brief(RuntimeError('The actor died.\n\nSee the docs.')) == 'The actor died.'
    text = 'ray::Actor()\nTraceback (most recent call last):\n  File "a.py"\nKeyError: 3'
    assert brief(RuntimeError(text)) == 'KeyError: 3'


@pytest.mark.slow
def test_a_cluster_that_runs_already(tmp_path):
    """`ray start` makes one with a token; it is there when the run is over, and used again."""
    ray = str(Path(sys.executable).with_name('ray'))
    variables = dict(os.environ, HOME=str(tmp_path), RAY_USAGE_STATS_ENABLED='0')
    start = [ray, 'start', '--head', '--port=6399', '--include-dashboard=false', '--num-cpus=2']
    (tmp_path / '.ray').mkdir()
    (tmp_path / '.ray/auth_token').write_text('5' * 64)
    log = (tmp_path / 'head.txt').open('w')
    head = subprocess.Popen(
        [*start, '--block'], env=variables, stdout=log, stderr=log, start_new_session=True
    )
    try:
        deadline = time.monotonic() + 100
        while 'Ray runtime started' not in (tmp_path / 'head.txt').read_text():
            said = (tmp_path / 'head.txt').read_text()
            assert head.poll() is None and time.monotonic() < deadline, said
            time.sleep(0.2)
        for folder in ('a', 'b'):
            argv = [sys.executable, '-c', CLUSTER, str(tmp_path / folder), 'auto']
            found = subprocess.run(argv, env=variables, capture_output=True, text=True, timeout=200)
            assert 'labelled=20' in found.stdout, found.stderr[-2000:]
            run = Run(tmp_path / folder, range(20))
            assert rows_of(run.store, run.listing) == run.expected()
    finally:
        head.terminate()
        head.wait(60)
        log.close()

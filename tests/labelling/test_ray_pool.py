"""Ray's actors in the place of processes: the same rows, whoever is killed."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest
from filelock import FileLock
from toy_labeller import KILLS, KillsWorkers, Recipe, Run, rows_of

from mmseg_siglip.io.failures import OutputError
from mmseg_siglip.labelling.drive import Drive, ShardTurns
from mmseg_siglip.labelling.ray_pool import RayPool, brief

pytest.importorskip('ray')


@pytest.fixture(autouse=True)
def path_of_tests(monkeypatch):
    monkeypatch.setenv('PYTHONPATH', os.pathsep.join(path for path in sys.path if path))


@pytest.fixture(autouse=True)
def alone(request):
    """Of tests in several processes, one at a time has clusters and kills actors."""
    if 'slow' not in request.keywords:
        yield
        return
    with FileLock(Path(tempfile.gettempdir(), 'mmseg_siglip_ray_tests.lock')):
        yield


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
    most, often, seconds = 20, 0.6, 0.3

    def kill(self, worker):
        if there := actors():  # none while Ray starts them again
            os.kill(self.chance.choice(there), signal.SIGKILL)


@pytest.mark.slow
def test_kills_and_an_image_that_kills(tmp_path):
    run = Run(tmp_path, [*range(30), KILLS, *range(31, 120)], size=3)
    pool, told = Killing(run.settings(Recipe(seconds=0.05)), 2), []
    turns = ShardTurns(run.listing, run.store)
    total = Drive(turns, pool, run.store, told=told.append).run()
    rows, wanted = run.rows(), run.expected()
    assert rows.pop('030.png').startswith('ended the process that labelled it: signal 9')
    del wanted['030.png']
    assert rows == wanted and pool.kills == 20 and total.labelled == 119 <= sum(told)
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


PORT = 6399
CLUSTER = """
import sys
from pathlib import Path
from toy_labeller import Recipe, Run
from mmseg_siglip.labelling.drive import Drive, ShardTurns
from mmseg_siglip.labelling.ray_pool import RayPool
run = Run(Path(sys.argv[1]), range(int(sys.argv[2])))
pool = RayPool(run.settings(Recipe(seconds=0.1)), 2, address='auto')
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


@pytest.fixture
def cluster(tmp_path):
    """Starts nodes of a cluster that wants a token, each with one CPU; ends all of them."""
    ray = str(Path(sys.executable).with_name('ray'))
    settings = dict(HOME=str(tmp_path), RAY_USAGE_STATS_ENABLED='0', RAY_AUTH_MODE='token')
    variables = dict(os.environ, **settings)
    variables.pop('CUDA_VISIBLE_DEVICES', None)  # by which tests hide the machine's own
    (tmp_path / '.ray').mkdir()
    (tmp_path / '.ray/auth_token').write_text('5' * 64)
    nodes = ExitStack()

    def start(*options):
        log = tmp_path / f'node_{len(list(tmp_path.glob("node_*")))}.txt'
        with log.open('w') as file:
            argv = [ray, 'start', '--num-cpus=1', '--block', *options]
            node = subprocess.Popen(
                argv, env=variables, stdout=file, stderr=file, start_new_session=True
            )
        nodes.callback(node.wait, 60)
        nodes.callback(node.terminate)
        deadline = time.monotonic() + 100
        while 'Ray runtime started' not in log.read_text():
            assert node.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)
        return node

    with nodes:
        start('--head', f'--port={PORT}', '--include-dashboard=false')
        yield start, variables


def label(folder, variables, count, meanwhile=lambda running: None):
    """Label so many images on the cluster, and see that all rows are there."""
    argv = [sys.executable, '-c', CLUSTER, str(folder), str(count)]
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with subprocess.Popen(argv, env=variables, **pipes) as running:
        try:
            meanwhile(running)
            said, errors = running.communicate(timeout=200)
        finally:
            running.kill()
    assert f'labelled={count}' in said, errors[-2000:]
    run = Run(folder, range(count))
    assert rows_of(run.store, run.listing) == run.expected()


@pytest.mark.slow
def test_a_cluster_that_runs_already(tmp_path, cluster):
    """It is there when the run is over, and used again."""
    _, variables = cluster
    for folder in (tmp_path / 'a', tmp_path / 'b'):
        label(folder, variables, 20)


SEEN = """
import os, sys
from pathlib import Path
from toy_labeller import Recipe, Run
from mmseg_siglip.labelling.drive import Drive, ShardTurns
from mmseg_siglip.labelling.ray_pool import RayPool
folder = Path(sys.argv[1])
class Seeing(Recipe):
    def __call__(self, number, count):
        Path(folder, f'{number} of {count} sees ' + os.environ['CUDA_VISIBLE_DEVICES']).touch()
        return super().__call__(number, count)
run = Run(folder / 'run', range(20))
pool = RayPool(run.settings(Seeing(seconds=0.1)), address='auto')
print(Drive(ShardTurns(run.listing, run.store), pool, run.store).run(), pool.count)
"""


@pytest.mark.slow
def test_an_actor_a_gpu(tmp_path, cluster):
    """Two that Ray is told of; each actor sees its own alone."""
    start, variables = cluster
    start(f'--address=127.0.0.1:{PORT}', '--num-cpus=2', '--num-gpus=2')
    (tmp_path / 'out').mkdir()
    argv = [sys.executable, '-c', SEEN, str(tmp_path / 'out')]
    ran = subprocess.run(argv, env=variables, capture_output=True, text=True, timeout=200)
    assert ran.stdout.rstrip().endswith(' 2') and 'labelled=20' in ran.stdout, ran.stderr[-2000:]
    seen = {path.name for path in (tmp_path / 'out').glob('* sees *')}
    assert seen == {'0 of 1 sees 0', '0 of 1 sees 1'}


@pytest.mark.slow
def test_a_node_that_is_lost(tmp_path, cluster):
    """An actor on each of two nodes; one node is killed with its actor."""
    start, variables = cluster
    lost = start(f'--address=127.0.0.1:{PORT}')
    folder, deadline = tmp_path / 'out', time.monotonic() + 100

    def kill_it(running):
        while (raylets := raylets_of_actors()) is None or len(raylets) < 2 or len(tables()) < 5:
            assert running.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        of_lost = psutil.Process(lost.pid).children(recursive=True)
        assert len(raylets & {process.pid for process in of_lost}) == 1
        for process in [*of_lost, lost]:
            process.kill()

    def tables():
        return list(folder.rglob('*.parquet'))

    label(folder, variables, 200, kill_it)


def raylets_of_actors():
    """The nodes that have one; None where one has just ended."""
    try:
        return {psutil.Process(actor).ppid() for actor in actors()}
    except psutil.NoSuchProcess:
        return None

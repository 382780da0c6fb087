from __future__ import annotations

import os
import runpy
import signal
import subprocess
import sys
import time

import pytest


@pytest.fixture
def shell(repository, tmp_path):
    """Runs a script with a ``python`` and an ``srun`` that print their arguments, one a line."""
    for name in ('python', 'srun'):
        (tmp_path / name).write_text(
            '#!/bin/sh\necho "PYTHONPATH=$PYTHONPATH"\nprintf "%s\\n" "$@"\n'
        )
        (tmp_path / name).chmod(0o755)

    def run(script, *argv, **variables):
        environment = dict(os.environ, PATH=f'{tmp_path}:{os.environ["PATH"]}', **variables)
        environment.pop('PYTHON', None)
        result = subprocess.run(
            [str(repository / 'tools' / script), *argv],
            env=environment,
            capture_output=True,
            text=True,
        )
        return result.returncode, result.stdout.splitlines(), result.stderr

    return run


EXTRA = ['--cfg-options', 'a=b c', "x='[1, 2]'", '', '*']


def test_dist_test_passes_everything_on_as_it_was(shell, repository):
    status, lines, _ = shell('dist_test.sh', 'my config.py', 'my weights.pth', '2', *EXTRA)
    assert status == 0
    assert lines[0].startswith(f'PYTHONPATH={repository}/tools/..')
    assert lines[1:4] == ['-m', 'torch.distributed.run', '--standalone']
    at = lines.index(f'{repository}/tools/test.py')
    assert lines[at - 2 : at] == ['--nproc-per-node', '2']
    arguments = ['my config.py', 'my weights.pth', '--launcher', 'pytorch', *EXTRA]
    assert lines[at + 1 :] == arguments


def test_dist_test_without_a_checkpoint(shell, repository):
    _, lines, _ = shell('dist_test.sh', 'config.py', '', '2')
    at = lines.index(f'{repository}/tools/test.py')
    assert lines[at + 1 :] == ['config.py', '--launcher', 'pytorch']


def test_dist_train_on_several_machines(shell, repository):
    variables = dict(NNODES='3', NODE_RANK='1', MASTER_ADDR='head', PORT='1234')
    status, lines, _ = shell('dist_train.sh', 'config.py', '8', *EXTRA, **variables)
    assert status == 0
    at = lines.index(f'{repository}/tools/train.py')
    assert lines[3:at] == [
        *('--nnodes', '3', '--node-rank', '1', '--master-addr', 'head', '--master-port', '1234'),
        *('--nproc-per-node', '8'),
    ]
    assert lines[at + 1 :] == ['config.py', '--launcher', 'pytorch', *EXTRA]


def test_dist_predict(repository, tmp_path):
    """Each rank gets its numbers; those of one that is killed do not end the others."""
    (tmp_path / 'python').write_text(
        '#!/bin/bash\n'
        f'printf "%s\\n" "$RANK $LOCAL_RANK $WORLD_SIZE" "$@" > {tmp_path}/rank_$RANK\n'
        '[ "$RANK" != 3 ] || kill -KILL $$\n'
        f'sleep 1; touch {tmp_path}/ended_$RANK; [ "$RANK" != 2 ] || exit $FIRST\n'
    )
    (tmp_path / 'python').chmod(0o755)
    tool = repository / 'tools/dist_predict.sh'
    for first in (0, 1):
        result = subprocess.run(
            [tool, '2', 'my photos', '--words', 'cat, dog', *EXTRA],
            env=dict(os.environ, PYTHON=str(tmp_path / 'python'), NNODES='2', NODE_RANK='1')
            | dict(FIRST=str(first)),
            capture_output=True,
            text=True,
        )
        assert result.returncode == first
        assert 'rank 1 of this machine ended with status 137' in result.stderr
    arguments = ['--launcher', 'pytorch', 'my photos', '--words', 'cat, dog', *EXTRA]
    for rank, numbers in ((2, '2 0 4'), (3, '3 1 4')):
        lines = (tmp_path / f'rank_{rank}').read_text().splitlines()
        assert lines == [numbers, f'{repository}/tools/predict.py', *arguments]
    assert (tmp_path / 'ended_2').exists() and not (tmp_path / 'ended_3').exists()


STOPPABLE = """#!{python}
import os, pathlib, signal, sys, time

def stop(number, frame):
    time.sleep(0.5)
    sys.exit(128 + number)

if signal.getsignal({number}) is not signal.SIG_IGN:
    signal.signal({number}, stop)
pathlib.Path({folder!r}, 'at_work_' + os.environ['RANK']).write_text(str(os.getpid()))
time.sleep(60)
"""


@pytest.mark.parametrize(
    ('number', 'status'),
    [(signal.SIGINT, 130), (signal.SIGQUIT, 131), (signal.SIGTERM, 143), (signal.SIGHUP, 129)],
)
@pytest.mark.parametrize('early', [False, True])
def test_a_signal_for_dist_predict_ends_its_ranks(repository, tmp_path, number, status, early):
    text = STOPPABLE.format(python=sys.executable, folder=str(tmp_path), number=int(signal.SIGTERM))
    (tmp_path / 'python').write_text(text)
    (tmp_path / 'python').chmod(0o755)
    process = subprocess.Popen(
        [repository / 'tools/dist_predict.sh', '4', 'photos'],
        env=dict(os.environ, PYTHON=str(tmp_path / 'python')),
        stderr=subprocess.PIPE,
        text=True,
    )
    end = time.monotonic() + 30
    while len(list(tmp_path.glob('at_work_*'))) < (1 if early else 4) and time.monotonic() < end:
        time.sleep(0.01)
    process.send_signal(number)
    _, said = process.communicate(timeout=30)
    assert process.returncode == status and 'ended with status' not in said
    for file in tmp_path.glob('at_work_*'):
        with pytest.raises(ProcessLookupError):
            os.kill(int(file.read_text()), 0)


@pytest.mark.parametrize('gpus', ['0', 'two', '-1'])
def test_so_many_processes_cannot_be(shell, gpus):
    status, lines, error = shell('dist_predict.sh', gpus, 'photos')
    assert (status, lines) == (2, []) and error.startswith('Usage: tools/dist_predict.sh GPUS')


def test_a_port_may_be_chosen_on_one_machine(shell):
    _, lines, _ = shell('dist_train.sh', 'config.py', '1', PORT='1234')
    assert lines[lines.index('--master-port') + 1] == '1234'
    assert '--standalone' not in lines


@pytest.mark.parametrize(
    ('script', 'first', 'last'),
    [
        ('slurm_test.sh', ['config.py', 'w.pth'], ['config.py', 'w.pth']),
        ('slurm_test.sh', ['config.py', ''], ['config.py']),
        ('slurm_train.sh', ['config.py'], ['config.py']),
        ('slurm_predict.sh', ['my photos'], ['my photos']),
    ],
)
def test_slurm(shell, repository, script, first, last):
    variables = dict(GPUS='16', SRUN_ARGS='--mem 10G --exclusive')
    status, lines, _ = shell(script, 'part', 'my job', *first, *EXTRA, **variables)
    assert status == 0
    target = f'{repository}/tools/{script.removeprefix("slurm_").replace(".sh", ".py")}'
    at = lines.index(target)
    assert lines[1:at] == [
        *('--partition', 'part', '--job-name', 'my job', '--gres', 'gpu:8'),
        *('--ntasks', '16', '--ntasks-per-node', '8', '--cpus-per-task', '5'),
        *('--kill-on-bad-exit', '0' if script == 'slurm_predict.sh' else '1'),
        *('--mem', '10G', '--exclusive', 'python', '-u'),
    ]
    assert lines[at + 1 :] == [*last, '--launcher', 'slurm', *EXTRA]


@pytest.mark.parametrize(
    'script',
    [
        *('dist_test.sh', 'dist_train.sh', 'dist_predict.sh'),
        *('slurm_test.sh', 'slurm_train.sh', 'slurm_predict.sh'),
    ],
)
def test_too_few_arguments_print_the_usage(shell, script):
    status, lines, error = shell(script, 'one')
    assert (status, lines) == (2, [])
    assert error.startswith(f'Usage: tools/{script} ')


@pytest.mark.parametrize(
    ('script', 'option'),
    [
        ('test.py', '--cfg-options'),
        ('train.py', '--cfg-options'),
        ('benchmark.py', '--datasets'),
        ('predict.py', '--vocabulary'),
    ],
)
def test_the_python_tools_start(repository, script, option):
    result = subprocess.run(
        [sys.executable, str(repository / 'tools' / script), '--help'],
        env=dict(os.environ, PYTHONPATH=str(repository)),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    assert option in result.stdout


@pytest.mark.parametrize(
    ('tool', 'command'),
    [
        *(('benchmark', 'benchmark'), ('predict', 'label'), ('test', 'test'), ('train', 'train')),
        *(('trace', 'trace'), ('export_patch_stats', 'patch-stats')),
    ],
)
def test_a_tool_is_a_command_and_leaves_as_one_of_several_must(
    repository, monkeypatch, tool, command
):
    left, called = [], []
    monkeypatch.setattr('mmseg_siglip.cli.common.leave', left.append)
    monkeypatch.setattr('mmseg_siglip.cli.main.main', lambda argv: called.extend(argv) or 7)
    monkeypatch.setattr(sys, 'argv', [f'{tool}.py', 'a b', '--c'])
    runpy.run_path(str(repository / 'tools' / f'{tool}.py'), run_name='__main__')
    assert (left, called) == ([7], [command, 'a b', '--c'])

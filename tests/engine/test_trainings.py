"""Two processes, or micro-batches one after another, train as one process on the whole batch."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

ALL = 'batch,accumulated,processes,both'
MEANS = ('cat_seg', 'depth', 'depth_finetune', 'normals', 'refer', 'cascade', 'llava')
"""Systems whose losses are means over images."""
NO_MEANS = ('cat_seg_counted', 'cascade_contrast')
"""Means over the pixels that count in a process's batch; regions against its own phrases."""
TOLERANCE = 2e-4  # up to 3e-5 was found
ROUNDED = 0.1  # products in bfloat16, weights in float32
WITH_BATCH_NORM = 1e-2  # of all weights, of which those at a batch norm move little


def train(folder, repository, *trainings):
    """A function from a system and a way to what each of its processes trained."""
    script = repository / 'tests/engine/trainings.py'
    environment = {name: value for name, value in os.environ.items() if name != 'RANK'}
    subprocess.run(
        [sys.executable, str(script), str(folder), *trainings],
        env=dict(environment, PYTHONPATH=str(repository)),
        check=True,
        capture_output=True,
        timeout=1500,
    )
    failed = ''.join(file.read_text()[-1500:] for file in folder.glob('*.failed'))
    assert not failed, failed

    def of(system, way):
        return [torch.load(file) for file in sorted(folder.glob(f'{system}.{way}.*.pth'))]

    return of


def apart(found, expected):
    """Length of the difference of two movements over that of the second."""
    assert found.keys() == expected.keys() and found
    one, other = (
        torch.cat([v.flatten().double() for v in moved.values()]) for moved in (found, expected)
    )
    assert other.norm() > 0
    return ((one - other).norm() / other.norm()).item()


def equal_on_all(ranks):
    first, *others = ranks
    return all(torch.equal(first[name], other[name]) for other in others for name in first)


def test_two_processes_train_as_one_with_the_whole_batch(tmp_path, repository):
    of = train(tmp_path, repository, 'depth:batch,processes')
    (whole,), ranks = of('depth', 'batch'), of('depth', 'processes')
    assert len(ranks) == 2 and equal_on_all(ranks)
    assert apart(ranks[0], whole) < TOLERANCE


@pytest.fixture(scope='module')
def trained(tmp_path_factory, repository):
    systems = (*MEANS, *NO_MEANS, 'rsrefseg2', 'rsrefseg2_contrast')
    wanted = (f'{system}:{ALL}' for system in systems)
    return train(tmp_path_factory.mktemp('trained'), repository, *wanted)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize('system', MEANS)
def test_all_ways_are_one(trained, system):
    (whole,), (accumulated,) = trained(system, 'batch'), trained(system, 'accumulated')
    assert apart(accumulated, whole) < TOLERANCE
    for way in ('processes', 'both'):
        ranks = trained(system, way)
        assert len(ranks) == 2 and equal_on_all(ranks)
        assert apart(ranks[0], whole) < TOLERANCE


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_pairs_are_of_all_processes_but_of_one_micro_batch(trained):
    """Of `PairedContrast`."""
    ways = {way: trained('rsrefseg2_contrast', way) for way in ALL.split(',')}
    assert equal_on_all(ways['processes']) and equal_on_all(ways['both'])
    assert apart(ways['processes'][0], ways['batch'][0]) < WITH_BATCH_NORM
    assert apart(ways['both'][0], ways['accumulated'][0]) < WITH_BATCH_NORM
    assert apart(ways['accumulated'][0], ways['batch'][0]) > 0.1


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize('system', NO_MEANS)
def test_losses_that_are_no_means_differ_and_processes_still_agree(trained, system):
    (whole,) = trained(system, 'batch')
    for way in ('processes', 'both'):
        ranks = trained(system, way)
        assert len(ranks) == 2 and equal_on_all(ranks)
        assert apart(ranks[0], whole) > 1.5 * TOLERANCE


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_batch_norm_sees_a_process_and_a_micro_batch(trained):
    def beside_it(moved):
        return {name: value for name, value in moved.items() if 'prompter.refine' in name}

    (whole,) = trained('rsrefseg2', 'batch')
    for way in ('processes', 'accumulated', 'both'):
        ranks = trained('rsrefseg2', way)
        assert equal_on_all(ranks) and apart(ranks[0], whole) < WITH_BATCH_NORM
        assert apart(beside_it(ranks[0]), beside_it(whole)) > 0.1


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize('system', ['cat_seg', 'normals', 'rsrefseg2_contrast', 'llava'])
def test_compiled_parts_train_alike(tmp_path, repository, system):
    ways = ('batch', 'compiled', 'accumulated', 'both_compiled')
    of = train(tmp_path, repository, f'{system}:{",".join(ways)}')
    (whole,), (compiled,), (accumulated,), ranks = (of(system, way) for way in ways)
    assert apart(compiled, whole) < TOLERANCE
    assert equal_on_all(ranks) and apart(ranks[0], accumulated) < WITH_BATCH_NORM
    for way in ('compiled', 'both_compiled'):
        said = ''.join(f.read_text() for f in tmp_path.glob(f'{system}.{way}/*/*.log'))
        assert 'torch.compile: ' in said and 'WARNING - torch' not in said


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize('system', [*MEANS, 'rsrefseg2'])
def test_bfloat16_trains_alike(tmp_path, repository, system):
    of = train(tmp_path, repository, f'{system}:batch,bfloat16')
    (whole,), (rounded,) = of(system, 'batch'), of(system, 'bfloat16')
    assert all(value.dtype == torch.float32 for value in rounded.values())
    assert TOLERANCE < apart(rounded, whole) < ROUNDED

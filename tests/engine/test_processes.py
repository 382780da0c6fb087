import os
from datetime import timedelta

import pytest
import torch.distributed as dist

from mmseg_siglip.engine.processes import start_gloo

SECOND = timedelta(seconds=1)


@pytest.fixture
def environment(monkeypatch):
    """Variables of a launcher, and no others."""
    names = ('RANK', 'WORLD_SIZE', 'LOCAL_RANK', 'MASTER_ADDR', 'MASTER_PORT')

    def use(**variables):
        for name in names:
            monkeypatch.setenv(name, '')  # so that the old value comes back
            monkeypatch.delenv(name)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return use


@pytest.mark.parametrize(
    ('launcher', 'variables'),
    [
        ('pytorch', dict(RANK='0', WORLD_SIZE='1', LOCAL_RANK='0')),
        ('slurm', dict(SLURM_PROCID='0', SLURM_NTASKS='1')),
        (
            'mpi',
            dict(
                OMPI_COMM_WORLD_RANK='0', OMPI_COMM_WORLD_SIZE='1', OMPI_COMM_WORLD_LOCAL_RANK='0'
            ),
        ),
    ],
)
def test_each_launcher_numbers_its_processes(environment, launcher, variables):
    environment(MASTER_ADDR='127.0.0.1', MASTER_PORT='0', **variables)
    start_gloo(launcher, timedelta(seconds=30))
    try:
        assert (dist.get_backend(), dist.get_rank(), dist.get_world_size()) == ('gloo', 0, 1)
    finally:
        dist.destroy_process_group()


def test_an_address_is_needed(environment):
    environment(SLURM_PROCID='0', SLURM_NTASKS='2', MASTER_PORT='1')
    with pytest.raises(ValueError, match='set MASTER_ADDR to run distributed'):
        start_gloo('slurm', SECOND)


def test_slurm_tells_its_first_host(environment, monkeypatch, tmp_path):
    scontrol = tmp_path / 'scontrol'
    scontrol.write_text(
        '#!/bin/sh\n[ "$*" = "show hostnames local[1-2]" ] && echo 127.0.0.1 && echo other\n'
    )
    scontrol.chmod(0o755)
    monkeypatch.setenv('PATH', f'{tmp_path}:{os.environ["PATH"]}')
    variables = dict(SLURM_PROCID='0', SLURM_NTASKS='1', SLURM_NODELIST='local[1-2]')
    environment(MASTER_PORT='0', **variables)
    start_gloo('slurm', timedelta(seconds=30))
    try:
        assert os.environ['MASTER_ADDR'] == '127.0.0.1'
    finally:
        dist.destroy_process_group()

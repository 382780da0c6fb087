from argparse import Namespace

import pytest
import torch

from mmseg_siglip.cli.jobs import devices
from mmseg_siglip.cli.jobs.devices import device_of, share_cpus


def args(**given):
    return Namespace(**dict(dict(device=None, workers=None, launcher='none'), **given))


def test_without_a_gpu():
    assert device_of(args(), 3) == device_of(args(device='cpu'), 0) == 'cpu'
    with pytest.raises(ValueError, match='no GPU is found'):
        device_of(args(device='cuda:3'), 0)


def test_each_worker_has_a_gpu_of_its_own(monkeypatch):
    monkeypatch.setattr(devices, 'find_device', lambda name: torch.device(name or 'cuda'))
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 4)
    assert [device_of(args(workers=6), number) for number in range(6)] == [
        f'cuda:{number}' for number in (0, 1, 2, 3, 0, 1)
    ]
    assert device_of(args(device='cuda:1', workers=6), 3) == 'cuda:1'
    for name, value in (('RANK', '3'), ('WORLD_SIZE', '4'), ('LOCAL_RANK', '1')):
        monkeypatch.setenv(name, value)
    assert [device_of(args(launcher='pytorch', workers=2), n) for n in (0, 1)] == [
        'cuda:2',
        'cuda:3',
    ]


def test_workers_share_the_cpus():
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(4)
        share_cpus(1)
        assert torch.get_num_threads() == 4
        share_cpus(2)
        assert torch.get_num_threads() == 2
        share_cpus(9)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)

"""Every test runs offline, on one thread, with a cache of its own."""

from __future__ import annotations

import os
import socket
import tempfile
from pathlib import Path

os.environ['OMP_NUM_THREADS'] = '1'
os.environ['HF_HUB_OFFLINE'] = '1'
os.environ['TRANSFORMERS_OFFLINE'] = '1'
os.environ['TOKENIZERS_PARALLELISM'] = 'false'
os.environ['CUDA_VISIBLE_DEVICES'] = ''
_CACHE = tempfile.TemporaryDirectory(prefix='mmseg_siglip-tests-')
os.environ['MMSEG_SIGLIP_CACHE'] = _CACHE.name

import pytest  # noqa: E402
import torch  # noqa: E402

REPOSITORY = Path(__file__).resolve().parents[1]
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """Only this machine can be reached."""
    connect = socket.socket.connect

    def connect_locally(self, address):
        host = address[0] if isinstance(address, tuple) else 'localhost'
        if host not in ('localhost', '127.0.0.1', '::1'):
            raise OSError(f'a test tried to reach {host}')
        return connect(self, address)

    monkeypatch.setattr(socket.socket, 'connect', connect_locally)


@pytest.fixture(scope='session')
def repository() -> Path:
    """The root of the checkout."""
    return REPOSITORY


@pytest.fixture(scope='session')
def real_data() -> Path:
    """The folder of real photographs, given by ``MMSEG_SIGLIP_DATA``."""
    folder = os.environ.get('MMSEG_SIGLIP_DATA')
    if not folder or not Path(folder).is_dir():
        pytest.skip('MMSEG_SIGLIP_DATA names no folder')
    return Path(folder)

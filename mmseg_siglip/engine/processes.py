"""Joining the processes of one run over CPUs."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from datetime import timedelta
from typing import TypeVar

import torch.distributed as torch_dist
from mmengine.dist import broadcast_object_list, get_dist_info

from mmseg_siglip.engine.peers import PATIENCE, Peers

T = TypeVar('T')

LAUNCHERS = ('none', 'pytorch', 'slurm', 'mpi')


def start_gloo(launcher: str, timeout: timedelta, patience: float = PATIENCE) -> None:
    """Start the default process group over gloo, as the launcher numbered the processes.

    MMEngine's own start selects a GPU for each process, which fails where there is none.

    Args:
        launcher: One of `LAUNCHERS`.
        timeout: How long an exchange waits for processes that are alive.
        patience: Seconds for the processes to meet, and see `Peers`.

    Raises:
        ValueError: ``MASTER_ADDR`` or ``MASTER_PORT`` is not set, and not known from Slurm; or not
            all processes came.
    """
    if launcher == 'slurm':
        os.environ['RANK'] = os.environ['SLURM_PROCID']
        os.environ['WORLD_SIZE'] = os.environ['SLURM_NTASKS']
        os.environ['LOCAL_RANK'] = os.environ.get('SLURM_LOCALID', '0')
        if 'MASTER_ADDR' not in os.environ and 'SLURM_NODELIST' in os.environ:
            os.environ['MASTER_ADDR'] = first_slurm_node(os.environ['SLURM_NODELIST'])
        os.environ.setdefault('MASTER_PORT', '29500')
    elif launcher == 'mpi':
        os.environ['RANK'] = os.environ['OMPI_COMM_WORLD_RANK']
        os.environ['WORLD_SIZE'] = os.environ['OMPI_COMM_WORLD_SIZE']
        os.environ['LOCAL_RANK'] = os.environ['OMPI_COMM_WORLD_LOCAL_RANK']
    unset = [name for name in ('MASTER_ADDR', 'MASTER_PORT') if name not in os.environ]
    if unset:
        raise ValueError(f'set {" and ".join(unset)} to run distributed over CPUs.')
    try:
        meeting = torch_dist.rendezvous('env://', timeout=timedelta(seconds=patience))
        store, rank, size = next(iter(meeting))
    except torch_dist.DistError as error:
        reason = str(error).strip().partition('\n')[0]
        raise ValueError(
            f'expected {os.environ["WORLD_SIZE"]} processes to meet at {os.environ["MASTER_ADDR"]}:'
            f'{os.environ["MASTER_PORT"]} within {patience:g} s: {reason}'
        ) from error
    watch_peers(rank, size, patience)
    torch_dist.init_process_group('gloo', store=store, rank=rank, world_size=size, timeout=timeout)


def watch_peers(rank: int, size: int, patience: float) -> None:
    """Begin to watch the other processes, if there are any."""
    if size > 1 and Peers.current is None:
        Peers(rank, size, patience)


def first_slurm_node(nodes: str) -> str:
    """The first host of a Slurm list such as ``gpu[3-5]``, as ``scontrol`` reads it."""
    listing = subprocess.run(
        ['scontrol', 'show', 'hostnames', nodes], capture_output=True, text=True, check=True
    )
    return listing.stdout.split()[0]


def first(function: Callable[[], T]) -> T:
    """What `function` returns in process 0, for all processes; its errors too."""
    box: list = [None, None]
    if get_dist_info()[0] == 0:
        try:
            box[0] = function()
        except (ValueError, OSError) as error:
            box[1] = ' '.join(str(error).split())
    broadcast_object_list(box)
    if box[1] is not None:
        raise ValueError(box[1])
    return box[0]

"""Which of the processes of a run this is; they need not know of each other."""

from __future__ import annotations

import os


def place_among(launcher: str) -> tuple[int, int, int]:
    """Number of this process, how many there are, and its number on this machine.

    Args:
        launcher: As of ``--launcher``; of ``slurm``, the tasks of a step, or those of an array.

    Raises:
        ValueError: The launcher did not number it.
    """
    names = {
        'pytorch': ('RANK', 'WORLD_SIZE', 'LOCAL_RANK'),
        'slurm': ('SLURM_PROCID', 'SLURM_NTASKS', 'SLURM_LOCALID'),
        'mpi': ('OMPI_COMM_WORLD_RANK', 'OMPI_COMM_WORLD_SIZE', 'OMPI_COMM_WORLD_LOCAL_RANK'),
    }
    if launcher == 'none':
        return 0, 1, 0
    if launcher == 'slurm' and 'SLURM_ARRAY_TASK_ID' in os.environ:
        first, number, size, step = (
            int(os.environ.get(f'SLURM_ARRAY_TASK_{name}', 1))
            for name in ('MIN', 'ID', 'COUNT', 'STEP')
        )
        tasks, task, local = (
            int(os.environ.get(f'SLURM_{name}', default))
            for name, default in (('NTASKS', 1), ('PROCID', 0), ('LOCALID', 0))
        )
        return (number - first) // step * tasks + task, size * tasks, local
    rank, size, local = names[launcher]
    if rank not in os.environ or size not in os.environ:
        raise ValueError(f'--launcher {launcher}: expected {rank} and {size} to be set')
    return int(os.environ[rank]), int(os.environ[size]), int(os.environ.get(local, 0))

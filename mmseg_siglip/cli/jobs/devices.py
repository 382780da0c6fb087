"""What each of several workers on a machine computes on."""

from __future__ import annotations

import argparse

import torch

from mmseg_siglip.device import find_device
from mmseg_siglip.labelling.ranks import place_among


def device_of(args: argparse.Namespace, number: int) -> str:
    """The device of worker `number`: where there are several GPUs, one of its own.

    Raises:
        ValueError: A GPU is asked for, and there is none.
    """
    device = find_device(args.device)
    if device.type != 'cuda' or device.index is not None:
        return str(device)
    local = place_among(args.launcher)[2] * (args.workers or 1) + number
    return f'cuda:{local % torch.cuda.device_count()}'


def share_cpus(count: int) -> None:
    """PyTorch's threads of one of `count` workers on this machine."""
    torch.set_num_threads(max(1, torch.get_num_threads() // count))

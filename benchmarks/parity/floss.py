"""FLOSS's fusion of experts."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from golden import Case, Golden
from torch import Tensor

from mmseg_siglip.models.scores.template_experts import fuse_experts


def cases(golden: Golden) -> Iterator[Case]:
    def fused() -> Tensor:
        experts, default = (
            torch.from_numpy(golden.array('functions', f'floss_{name}'))
            for name in ('expert', 'default')
        )
        every = ((index, expert, expert) for index, expert in enumerate(experts))
        return fuse_experts(default, every, torch.arange(len(experts)))

    yield Case('FLOSS', 'functions', 'floss_fused', fused)

"""A checkpoint without what only its own training needs, under a name that tells its digest."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from pathlib import Path

import torch

from mmseg_siglip.io.files import write_atomically
from mmseg_siglip.weights.checkpoint import load_checkpoint_file


def publish(path: str | Path, keys: Sequence[str]) -> Path:
    """Write some parts of a checkpoint beside it, whole or not at all.

    Args:
        path: Of the checkpoint.
        keys: The parts to keep.

    Returns:
        ``<name>-<d>.pth``, d the first 8 digits of the SHA-256 of its bytes, as `torch.hub` checks.

    Raises:
        ValueError: The checkpoint has no such part.
    """
    path = Path(path)
    checkpoint = load_checkpoint_file(path)
    unknown = [key for key in keys if key not in checkpoint]
    if unknown:
        raise ValueError(
            f'{path}: published_keys: expected some of {", ".join(checkpoint)}, found {unknown[0]}'
        )
    buffer = io.BytesIO()
    torch.save({key: checkpoint[key] for key in keys}, buffer)
    digest = hashlib.sha256(buffer.getbuffer()).hexdigest()[:8]
    target = path.with_name(f'{path.stem}-{digest}.pth')
    write_atomically(buffer.getbuffer(), target)
    return target

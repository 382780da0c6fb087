"""The digest of a model's weights, computed again only where they have changed."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from mmseg_siglip.weights.differences import tensors_digest

_KNOWN: WeakKeyDictionary[nn.Module, tuple[bytes, str]] = WeakKeyDictionary()
PART = 1024  # words of 8 bytes that are summed
ROWS = 256  # parts at a time, so that what is summed stays in a cache


def remembered_digest(module: nn.Module, state: Mapping[str, Tensor]) -> str:
    """`tensors_digest` of `state`, weights of `module`, computed once as long as they stay.

    Args:
        module: Whose weights they are.
        state: The weights.
    """
    mark = fingerprint(state)
    known = _KNOWN.get(module)
    if known is None or known[0] != mark:
        known = _KNOWN[module] = (mark, tensors_digest(state))
    return known[1]


@torch.no_grad()
def fingerprint(state: Mapping[str, Tensor]) -> bytes:
    """What changes with the values: sums of `PART` words of 8 bytes, each times an odd number of
    its place, and PyTorch's own count of changes, which writing through ``.data`` does not touch.

    Args:
        state: Tensors of any shape and type, on any device; from a GPU there is one copy.
    """
    sums, texts = [], []
    for name, value in sorted(state.items()):
        changes = None if value.is_inference() else value._version
        texts.append(f'{name} {tuple(value.shape)} {value.dtype} {changes}')
        sums += part_sums(value.detach().contiguous().reshape(-1).view(torch.uint8))
    found = blake2b('\n'.join(texts).encode())
    found.update(torch.cat(sums).cpu().numpy() if sums else b'')
    return found.digest()


def part_sums(data: Tensor) -> list[Tensor]:
    """Sums of bytes (N,) as whole numbers, which wrap around: of parts, of what is left of words,
    of what is left of bytes."""
    if data.storage_offset() % 8:
        data = data.clone()
    whole = len(data) // 8 * 8
    words = data[:whole].view(torch.int64)
    parts = len(words) // PART * PART
    places = 2 * torch.arange(PART, device=data.device) + 1
    rest = (words[parts:] * places[: len(words) - parts]).sum()
    last = (data[whole:] * places[: len(data) - whole]).sum()
    chunks = words[:parts].view(-1, PART).split(ROWS)
    return [*((chunk * places).sum(dim=-1) for chunk in chunks), rest[None], last[None]]

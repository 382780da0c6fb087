"""The digest of a model's weights, computed again only where they have changed."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from mmseg_siglip.weights.differences import tensors_digest

_KNOWN: WeakKeyDictionary[nn.Module, tuple[bytes, str]] = WeakKeyDictionary()
PART, ROWS = 1024, 128  # words that are summed at a time stay in a cache


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
    """What changes with the values: sums of words of 8 bytes, see `part_sums`, and PyTorch's own
    count of changes, which writing through ``.data`` does not touch.

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
    """Of bytes (N,): sums of words along both sides of matrices of them, as whole numbers that wrap
    around, and what is left of words and bytes.

    What changes places changes one of the sums. Down the columns a word counts without its lowest
    bits, which leaves room for many signs: the highest bit added twice is nothing.
    """
    if data.storage_offset() % 8:
        data = data.clone()
    whole = len(data) // 8 * 8
    words = data[:whole].view(torch.int64)
    parts = len(words) // PART * PART
    matrices = words[:parts].view(-1, PART).split(ROWS)
    sums = [part for m in matrices for part in (m.sum(dim=1), (m >> 17).sum(dim=0))]
    return [*sums, words[parts:], data[whole:].to(torch.int64)]

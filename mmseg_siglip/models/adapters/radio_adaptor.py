"""RADIO's adaptors in its published files (``.pth.tar``)."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

HEAD = re.compile(r'_heads\.([^.]+)\.')


def adaptor_names(state: Mapping[str, Tensor]) -> list[str]:
    """The adaptors whose summary heads a file holds."""
    return list(dict.fromkeys(match[1] for name in state if (match := HEAD.match(name))))


def summary_head(state: Mapping[str, Tensor], adaptor: str) -> dict[str, Tensor]:
    """The tensors of an adaptor's summary head by its own names, all others left out.

    Raises:
        ValueError: There is no such adaptor.
    """
    prefix = f'_heads.{adaptor}.'
    found = {name[len(prefix) :]: value for name, value in state.items() if name.startswith(prefix)}
    if not found:
        names = ', '.join(adaptor_names(state)) or 'none'
        raise ValueError(f'adaptor: expected one of those in the file, {names}; found {adaptor!r}')
    return found

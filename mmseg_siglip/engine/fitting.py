"""Whether the weights of a checkpoint are those of a model."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence

from torch import Tensor, nn


def compare_weights(
    model: nn.Module, found: Mapping[str, Tensor]
) -> tuple[list[str], list[str], int]:
    """Missing names, names with another shape, and the number of tensors that fit."""
    wanted = model.state_dict()
    missing = [key for key in wanted if key not in found]
    missing = [key for key in missing if not key.endswith('num_batches_tracked')]
    shared = [key for key in wanted if key in found]
    reshaped = [key for key in shared if wanted[key].shape != getattr(found[key], 'shape', None)]
    return missing, reshaped, len(shared) - len(reshaped)


def revised(weights: Mapping[str, Tensor], keys: Sequence[tuple[str, str]]) -> OrderedDict:
    """`weights` whose names have each pattern replaced, with the versions of their modules."""
    renamed = OrderedDict(weights)
    for pattern, replacement in keys:
        renamed = OrderedDict((re.sub(pattern, replacement, k), v) for k, v in renamed.items())
    renamed._metadata = getattr(weights, '_metadata', OrderedDict())
    return renamed

"""MMEngine's checkpoint loaders, all replaced by the reader that runs nothing.

Imported while `mmengine.runner` is: nothing here may need more of it than its `checkpoint`.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from torch import Tensor

from mmseg_siglip.weights.checkpoint import load_checkpoint_file
from mmseg_siglip.weights.fetch import SOURCES, fetch
from mmseg_siglip.weights.finite import refuse_not_finite

STATES = ('state_dict', 'ema_state_dict')


def load_from_safe(filename: str, map_location: object = None) -> dict[str, Any]:
    """A loader in MMEngine's form; tensors stay on the CPU until a model copies them.

    Raises:
        ValueError: See `load_checkpoint_file`; or weights are not finite.
    """
    checkpoint = load_checkpoint_file(fetch(filename))
    states = [checkpoint[name] for name in STATES if isinstance(checkpoint.get(name), dict)]
    for state in states or [checkpoint]:
        tensors = {name: value for name, value in state.items() if isinstance(value, Tensor)}
        refuse_not_finite(tensors, filename)
    return checkpoint


def load_from_mmcls(filename: str, map_location: object = None) -> dict[str, Any]:
    """As above, reduced to the backbone's weights, which is what ``mmcls://`` means."""
    checkpoint = load_from_safe(filename)
    state_dict = checkpoint.get('state_dict', checkpoint)
    weights = {
        key.removeprefix('backbone.'): value
        for key, value in state_dict.items()
        if key.startswith('backbone.')
    }
    return dict(state_dict=OrderedDict(weights))


def replace_loaders(loader: type) -> None:
    """Serve every address through `fetch`; what it cannot serve is refused by name.

    Args:
        loader: MMEngine's ``CheckpointLoader``.
    """
    addresses = [*loader._schemes, *(f'{scheme}://' for scheme in SOURCES), r'\w+://']
    loader.register_scheme(addresses, load_from_safe, force=True)
    loader.register_scheme('mmcls://', load_from_mmcls, force=True)

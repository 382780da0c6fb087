"""Whether the classes of label maps begin at 0 or at 1, as far as their values tell."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence

import numpy as np

from mmseg_siglip.datasets.transforms.loading import read_bytes
from mmseg_siglip.io.image import decode_labels

LOOKED_INTO = 32
"""Label maps of a set, evenly spaced."""


def count_values(paths: Sequence[str], backend_args: dict | None = None) -> Counter:
    """How many pixels hold each value in the label maps that are looked into.

    What cannot be read is passed over: it is named where it is loaded.
    """
    found: Counter = Counter()
    places = np.linspace(0, len(paths) - 1, min(LOOKED_INTO, len(paths))).round().astype(int)
    for path in (paths[place] for place in places.tolist()):
        try:
            labels = decode_labels(read_bytes(path, backend_args), path)
        except ValueError:
            continue
        values, pixels = np.unique(labels, return_counts=True)
        found.update(dict(zip(values.tolist(), pixels.tolist(), strict=True)))
    return found


def contradiction(
    paths: Sequence[str],
    first: int,
    last: int,
    void: int,
    *,
    outlines: bool = False,
    backend_args: dict | None = None,
) -> str:
    """What speaks against a first class, a sentence without its end; nothing if nothing does.

    Args:
        paths: Of label maps.
        first: The value of the first class that is believed, 0 or 1.
        last: The value of the last class if the first is 1, which no map holds if it is 0.
        void: What means no class if the first is 0; if it is 1, that is 0.
        outlines: Whether `void` is around objects if the first is 1, as in PASCAL VOC: then there
            is less of it than of the ground, which is 0, and `last` tells nothing.
        backend_args: Arguments of MMEngine's file backend.
    """
    found = count_values(paths, backend_args)
    if outlines:
        other = int(found[void] < found[0])
        reason = f'{found[void]} pixels are {void} and {found[0]} are 0'
        told = found[void] != found[0]
    else:
        other = int(found[last] > 0)
        reason = f'there is {last}' if other else f'there is {void} and no {last}'
        told = found[last] or found[void]
    if not told or other == first:
        return ''
    folder = os.path.dirname(paths[0])
    return f'{folder}: expected label maps whose classes begin at {first}, found {other}: {reason}'

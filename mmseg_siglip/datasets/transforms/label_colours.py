"""Label maps that are painted: a colour for each class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

Colour = tuple[int, int, int]
"""Red, green and blue, 0 to 255 each."""


def colour_table(
    colours: Sequence[Sequence[int]], void_colours: Sequence[Sequence[int]], ignore_index: int
) -> dict[Colour, int]:
    """The class index of each colour, and ``ignore_index`` of those that mean none.

    Raises:
        ValueError: One is no colour, or two are the same.
    """
    table: dict[Colour, int] = {}
    for key, given in (('label_colours', colours), ('void_colours', void_colours)):
        for index, colour in enumerate(given):
            values = tuple(colour) if isinstance(colour, Sequence) else ()
            if len(values) != 3 or not all(type(v) is int and 0 <= v <= 255 for v in values):
                raise ValueError(
                    f'{key}[{index}]: expected red, green and blue of 0 to 255, found {colour!r}'
                )
            if values in table:
                raise ValueError(f'{key}[{index}]: {values} is there already')
            table[values] = index if key == 'label_colours' else ignore_index
    return table


def labels_of_colours(picture: np.ndarray, table: Mapping[Colour, int], name: str) -> np.ndarray:
    """The labels that a picture shows.

    Args:
        picture: uint8 (H, W, 3) RGB.
        table: The label of each colour.
        name: Of the file.

    Returns:
        int32 (H, W).

    Raises:
        ValueError: A pixel has another colour.
    """
    every = np.array(list(table))
    codes = _codes(every)
    order = np.argsort(codes)
    codes, labels = codes[order], np.array(list(table.values()), np.int32)[order]
    pixels = _codes(picture)
    place = np.searchsorted(codes, pixels).clip(max=len(codes) - 1)
    strange = codes[place] != pixels
    if strange.any():
        row, column = np.argwhere(strange)[0].tolist()
        found = picture[row, column].astype(int)
        nearest = every[((every - found) ** 2).sum(1).argmin()]
        raise ValueError(
            f'{name}: expected colours of label_colours or void_colours, found '
            f'{tuple(found.tolist())} in row {row}, column {column}, and such in '
            f'{int(strange.sum())} of {strange.size} pixels; the nearest is '
            f'{tuple(nearest.tolist())}'
        )
    return labels[place]


def _codes(rgb: np.ndarray) -> np.ndarray:
    """Colours (..., 3) as one number each."""
    return rgb.astype(np.int64) @ np.array([1 << 16, 1 << 8, 1])

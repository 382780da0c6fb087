"""Mean and standard deviation of pixels, as a checkpoint writes them down."""

from __future__ import annotations

LARGEST = 1e6
Statistics = tuple[tuple[float, ...], tuple[float, ...]]
"""Of RGB in 0..1."""


def check_statistics(mean: object, std: object, source: object) -> Statistics:
    """Both, if they are three numbers each, none beyond a million, and no deviation is 0.

    Raises:
        ValueError: They are not.
    """
    found = []
    for name, values, least in (('mean', mean, -LARGEST), ('std', std, 0.0)):
        values = tuple(values) if isinstance(values, (list, tuple)) else (values,)
        numbers = [v for v in values if type(v) in (int, float) and least < v < LARGEST]
        if len(numbers) != 3 or len(values) != 3:
            raise ValueError(
                f'{source}: expected three numbers as {name} of its images, found {values}'
            )
        found.append(values)
    return tuple(found)

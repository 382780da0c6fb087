"""Images that a metric has nothing to compare with: named, counted, and in no mean."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from mmengine.logging import print_log

WITHOUT = 'without_truth'
"""Key of such an image's result, whose value is its name, and of their number."""


class NoTruth(ValueError):
    """No pixel of an image can be scored."""


def split_scored(results: Sequence[dict], wanted: str) -> tuple[list[dict], dict[str, int]]:
    """The results of images with truth, and how many have none, if any; these the log names.

    Args:
        results: Of all images.
        wanted: What counts as truth, for messages.

    Raises:
        ValueError: No image has truth.
    """
    scored = [result for result in results if WITHOUT not in result]
    names = [result[WITHOUT] for result in results if WITHOUT in result]
    if not scored:
        raise ValueError(
            f'expected some image with {wanted}, found {len(names)} without, first {names[0]}'
        )
    if not names:
        return scored, {}
    print_log(
        f'{len(names)} of {len(results)} images have no {wanted} and are not counted: '
        f'{", ".join(names)}',
        'current',
        logging.WARNING,
    )
    return scored, {WITHOUT: len(names)}

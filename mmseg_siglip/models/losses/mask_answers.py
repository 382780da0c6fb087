"""What masks of phrases say: 1, it is there; 0, it is not; a third number, nothing."""

from __future__ import annotations


def check_third(ignore_index: int, loss: str) -> None:
    """Refuse a number for pixels that do not count which is an answer.

    Raises:
        ValueError: It is 0 or 1; `loss` says whose.
    """
    if ignore_index in (0, 1):
        raise ValueError(
            f'{loss}.ignore_index: expected a number that is no answer, such as 255, found '
            f'{ignore_index}'
        )

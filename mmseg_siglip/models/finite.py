"""What a second model gives must be numbers: NaN is below every threshold and drops out unseen."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from mmengine.structures import BaseDataElement
from torch import Tensor


class NotFinite(ValueError):
    """Something is no number, of an image whose name is not known here."""


def require_finite(model: str, *values: Tensor) -> None:
    """Refuse values that are no numbers.

    Args:
        model: What gave them.
        values: Of any shape.

    Raises:
        NotFinite: One is none.
    """
    if not all(value.isfinite().all() for value in values):
        raise NotFinite(
            f'expected finite numbers from {model}, found NaN or infinity; are its weights '
            'damaged, or its numbers too large for its precision?'
        )


@contextmanager
def of_image(sample: BaseDataElement | None) -> Iterator[None]:
    """While open, what is no number is of this image, whose path is named in the error."""
    try:
        yield
    except NotFinite as error:
        name = 'the image' if sample is None else sample.metainfo.get('img_path', 'the image')
        raise ValueError(f'{name}: {error}') from error

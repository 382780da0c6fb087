"""What a second model gives must be numbers: NaN is below every threshold and drops out unseen."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import torch
from mmengine.structures import BaseDataElement
from torch import Tensor

from mmseg_siglip.device import to_host_later
from mmseg_siglip.later import Later


class NotFinite(ValueError):
    """Something is no number, of an image whose name is not known here."""


@dataclass(frozen=True)
class Doubt:
    """What is judged with the rest of a batch, so that a GPU is not waited for before.

    Attributes:
        finite: (), bool, whether all values are numbers; a tensor's value is not known yet.
        error: What to raise if not.
    """

    finite: Tensor | bool
    error: ValueError


_DOUBTS: ContextVar[list[Doubt] | None] = ContextVar('doubts', default=None)
_IMAGE: ContextVar[str | None] = ContextVar('image', default=None)


def require_finite(model: str, *values: Tensor, later: bool = False) -> None:
    """Refuse values that are no numbers.

    Args:
        model: What gave them.
        values: Of any shape.
        later: Whether values on a GPU may be refused at the end of the batch, where somebody
            judges that (see `doubts`): what follows takes them whatever they are.

    Raises:
        NotFinite: One is none.
    """
    error = NotFinite(
        f'expected finite numbers from {model}, found NaN or infinity; are its weights '
        'damaged, or its numbers too large for its precision?'
    )
    finite = torch.stack([value.isfinite().all() for value in values]).all()
    held = _DOUBTS.get()
    if later and held is not None and values[0].is_cuda:
        name = _IMAGE.get()
        error = error if name is None else ValueError(f'{name}: {error}')
        held.append(Doubt(finite, error))
    elif not finite:
        raise error


@contextmanager
def doubts(*, later: bool = False) -> Iterator[list[Doubt]]:
    """While open, doubts are collected; where it ends, they are judged together.

    Within another one it is the other that judges.

    Args:
        later: Judge none: who opened it does, see `fetch_sure`.

    Raises:
        ValueError: Something is no number.
    """
    held = _DOUBTS.get()
    if held is not None:
        yield held
        return
    held = []
    token = _DOUBTS.set(held)
    try:
        yield held
    finally:
        _DOUBTS.reset(token)
    if not later:
        fetch_sure([], held)()


def fetch_sure(tensors: Sequence[Tensor], held: Sequence[Doubt]) -> Later[list[Tensor]]:
    """`to_host_later`, with the error of the first doubt that holds."""
    flags = [doubt.finite for doubt in held if isinstance(doubt.finite, Tensor)]
    flags = [torch.stack(flags)] if flags else []

    def judge(found: list[Tensor]) -> list[Tensor]:
        known = iter(found.pop().tolist() if flags else ())
        for doubt in held:
            if not (next(known) if isinstance(doubt.finite, Tensor) else doubt.finite):
                raise doubt.error
        return found

    return to_host_later([*tensors, *flags]).then(judge)


@contextmanager
def of_image(sample: BaseDataElement | None) -> Iterator[None]:
    """While open, what is no number is of this image, whose path is named in the error."""
    name = 'the image' if sample is None else sample.metainfo.get('img_path', 'the image')
    token = _IMAGE.set(name)
    try:
        yield
    except NotFinite as error:
        raise ValueError(f'{name}: {error}') from error
    finally:
        _IMAGE.reset(token)

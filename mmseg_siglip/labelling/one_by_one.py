"""Each image in a process that may end: the last try of a shard that has ended several."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

from mmseg_siglip.io.failures import Failure
from mmseg_siglip.labelling.labeller import Recipe, Row
from mmseg_siglip.labelling.process import Child, Died, Handler, Ready, Replied, Unable
from mmseg_siglip.labelling.rows import failure_row, label_members
from mmseg_siglip.labelling.shards import Encoded, Member

STARTS = 3  # deaths in a row of a process that has begun nothing


def label_alone(
    members: Iterable[Member | Failure],
    recipe: Recipe,
    *,
    place: tuple[int, int] = (0, 1),
    told: Callable[[int], None] = lambda count: None,
) -> Iterator[Row]:
    """Rows as of `label_members`; an image that ends its process is a failure.

    Args:
        members: Of a shard.
        recipe: Makes the labeller.
        place: Its two numbers.
        told: Called with how many images more are done.

    Raises:
        ValueError: The process ends before it has an image.
    """
    child = None
    try:
        for member in members:
            if isinstance(member, Failure):
                yield failure_row(member)
                continue
            child = child or started(recipe, place)
            rows = ask(child, member)
            if isinstance(rows, Died):
                child.close()
                child = None
                failure = Failure(
                    member.place, f'ended the process that labelled it: {rows.reason}'
                )
                rows = [failure_row(failure, member.name)]
            yield from rows
            told(1)
    finally:
        if child is not None:
            child.close()


def ask(child: Child, member: Member) -> list[Row] | Died:
    try:
        data = member.read()
    except ValueError as error:
        return [failure_row(Failure.of(member.place, error), member.name)]
    child.ask(Encoded(member.name, member.place, data))
    while not isinstance(event := child.next(), (Replied, Died)):
        pass
    return event if isinstance(event, Died) else event.answer


def started(recipe: Recipe, place: tuple[int, int]) -> Child:
    for _ in range(STARTS):
        child = Child(partial(build_alone, recipe, place))
        event = child.next()
        if isinstance(event, Ready):
            return child
        child.close()
        if isinstance(event, Unable):
            break
    raise ValueError(f'a process that labels ended before it had an image: {event.reason}')


def build_alone(recipe: Recipe, place: tuple[int, int]) -> tuple[Any, Handler]:
    labeller = recipe(*place)
    return None, lambda member, told: list(
        label_members([member], labeller, batch_size=1, threads=1)
    )

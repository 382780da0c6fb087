"""From the images of a shard to its table.

Each image has one row, or one for each phrase; what could not be labelled has one, too:

    name     relative path, None where not even that is known
    path     where it lies
    height   pixels, None of a failure
    width
    ...      what the system adds, see `ShardLabeller.columns`
    failure  why there is no result, None where there is one
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import IO, Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from mmseg_siglip.io.failures import Failure
from mmseg_siglip.io.outcomes import outcomes, raise_others
from mmseg_siglip.labelling.labeller import Row, ShardLabeller
from mmseg_siglip.labelling.shards import Member
from mmseg_siglip.later import Later

GROUP = 64  # rows of a row group
NAME = dict(name='string', path='string', height='int32', width='int32')

Decoded = tuple[Member, Any] | tuple[None, Failure]
"""An image, or why there is none."""
Labelled = tuple[Member | None, tuple[int, int] | None, Any]
"""Of which image, its height and width, and what was found in it, or why nothing."""

T, R = TypeVar('T'), TypeVar('R')


def schema_of(columns: Mapping[str, str], metadata: Mapping[str, str]) -> pa.Schema:
    """Of the tables of a labeller with these columns."""
    kinds = {**NAME, **columns, 'failure': 'string'}
    fields = [(name, arrow_type(kind)) for name, kind in kinds.items()]
    return pa.schema(fields, metadata=dict(metadata))


def arrow_type(kind: str) -> pa.DataType:
    """``float32`` or ``list<float32>`` as Arrow has it."""
    if kind.startswith('list<'):
        return pa.list_(arrow_type(kind[5:-1]))
    return getattr(pa, kind)()


def failure_row(failure: Failure, name: str | None = None) -> Row:
    return dict(name=name, path=in_utf8(failure.path), failure=in_utf8(failure.reason))


def in_utf8(text: str) -> str:
    """A path as text that can be stored: bytes that are no UTF-8 as ``\\udcff``."""
    return text.encode('utf-8', 'backslashreplace').decode()


def write_table(rows: Iterable[Row], schema: pa.Schema, file: IO[bytes]) -> None:
    """Write rows as Parquet, a group in memory at a time."""
    rows = iter(rows)
    with pq.ParquetWriter(file, schema, compression='zstd') as writer:
        while group := list(islice(rows, GROUP)):
            writer.write_table(pa.Table.from_pylist(group, schema))


def label_members(
    members: Iterable[Member | Failure],
    labeller: ShardLabeller,
    *,
    batch_size: int,
    threads: int,
    told: Callable[[int], None] = lambda count: None,
) -> Iterator[Row]:
    """Rows of images, in their order.

    What threads do, reading, decoding and encoding, goes on while other images are labelled.

    Args:
        members: Of a shard.
        labeller: What labels.
        batch_size: Images at a time.
        threads: That read, decode and encode.
        told: Called with how many images more are done.
    """

    def decode(member: Member | Failure) -> Decoded:
        if isinstance(member, Failure):
            return None, member
        try:
            return member, labeller.decode(member.read(), member.place)
        except Exception as error:
            return member, Failure.of(member.place, error)

    def encode(one: Labelled) -> list[Row]:
        member, shape, found = one
        if isinstance(found, Failure):
            return [failure_row(found, member and member.name)]
        try:
            rows = labeller.rows(found)
        except Exception as error:
            raise_others(error)
            return [failure_row(Failure.of(member.place, error), member.name)]
        height, width = shape
        about = dict(name=member.name, path=in_utf8(member.place), height=height, width=width)
        return [row | about for row in rows]

    with ThreadPoolExecutor(max(threads, 1)) as pool:
        decoded = ahead(pool, decode, members, batch_size + threads)
        for rows in ahead(pool, encode, labelled(decoded, labeller, batch_size), batch_size):
            yield from rows
            told(1)


def labelled(
    decoded: Iterable[Decoded], labeller: ShardLabeller, batch_size: int
) -> Iterator[Labelled]:
    """What is found in images, or the failure of each, in their order; a batch at a time.

    A GPU gets the next batch before the results of one are waited for.
    """
    decoded, before = iter(decoded), iter(())
    while batch := list(islice(decoded, batch_size)):
        images = [(member, image) for member, image in batch if not isinstance(image, Failure)]
        later = begin(labeller, images)
        yield from before
        before = of_batch(batch, images, later, labeller)
        if later.ready:
            yield from before
    yield from before


def begin(labeller: ShardLabeller, images: Sequence[tuple[Member, Any]]) -> Later[Sequence[Any]]:
    """What is found in images, or the error of all."""
    try:
        return labeller.begin([image for _, image in images])
    except Exception as error:
        raise_others(error)
        return Later.failed(error.with_traceback(None))  # whose frames would keep a batch's memory


def of_batch(
    batch: Sequence[Decoded],
    images: Sequence[tuple[Member, Any]],
    later: Later[Sequence[Any]],
    labeller: ShardLabeller,
) -> Iterator[Labelled]:
    """What is found in a batch's images, each tried alone where `later` fails."""
    results = outcomes(
        lambda pairs: (later if pairs is images else begin(labeller, pairs))(), images
    )
    for member, image in batch:
        if isinstance(image, Failure):
            yield member, None, image
            continue
        found = next(results)[1]
        if isinstance(found, Exception):
            found = Failure.of(member.place, found)
        yield member, image.shape[:2], found


def ahead(
    pool: ThreadPoolExecutor, function: Callable[[T], R], items: Iterable[T], count: int
) -> Iterator[R]:
    """``map(function, items)`` in threads, that many items ahead and no more."""
    waiting: deque = deque()
    for item in items:
        waiting.append(pool.submit(function, item))
        if len(waiting) > count:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()

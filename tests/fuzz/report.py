"""What a search found, as Markdown."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from fuzz.kind import FAULTS, MIB, VERDICTS
from fuzz.search import Fault, Row


def table(rows: Sequence[Row]) -> str:
    """A line for each kind, and one for all."""
    heads = ['kind', 'tried', *VERDICTS, 'worst memory (MiB)', 'seconds']
    lines = [f'| {" | ".join(heads)} |', f'|---|{"--:|" * (len(heads) - 1)}']
    for row in rows:
        lines.append(line(row.kind, [row], row.memory))
    if len(rows) > 1:
        lines.append(line('all', rows, max(row.memory for row in rows)))
    return '\n'.join(lines)


def line(name: str, rows: Sequence[Row], memory: int) -> str:
    """Of the table: figures of some rows together."""
    counts = [sum(row.verdicts[verdict] for row in rows) for verdict in VERDICTS]
    figures = [sum(counts), *counts, memory // MIB, round(sum(row.seconds for row in rows))]
    return f'| {name} | {" | ".join(map(str, figures))} |'


def faults(rows: Sequence[Row]) -> str:
    """A line for each place at which inputs of a kind showed the same fault, the commonest first
    within a verdict."""
    return '\n'.join(line for row in rows for line in (*_unread(row), *_places(row)))


def _unread(row: Row) -> Iterator[str]:
    for outcome in row.healthy:
        if outcome.verdict != 'accepted':
            what = f'a healthy input is {outcome.verdict}'
            yield f'- {row.kind}: {what} at {outcome.place or "?"}: `{outcome.error}`'


def _places(row: Row) -> Iterator[str]:
    groups: dict[tuple[str, str, str], list[Fault]] = defaultdict(list)
    for fault in row.faults:
        name = fault.outcome.error.partition(':')[0]
        name = 'memory' if fault.outcome.verdict == 'hungry' else name
        groups[fault.outcome.verdict, name, fault.outcome.place].append(fault)
    order = sorted(groups.items(), key=lambda item: (FAULTS.index(item[0][0]), -len(item[1])))
    for (verdict, _, place), found in order:
        first = found[0]
        yield (
            f'- {row.kind}: {verdict}, {len(found)} times at {place or "?"}: '
            f'`{first.outcome.error}` (case {first.number}: {first.damage})'
        )

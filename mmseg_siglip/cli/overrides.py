"""``KEY=VALUE`` of the command line: values as MMEngine reads them, where it reads them right.

``1``, ``0.5``, ``true``, ``None``, ``a,b``, ``[a, b]``, ``(1, 2)`` and words are MMEngine's. Its
``DictAction`` takes the blanks out of everything, a quoted path included, has no dicts, and recurs
without end on a pipeline. Here blanks stay, what stands in quotes is a string to the letter, and
``{'type': 'Resize', 'scale': (8, 8)}`` or ``dict(type='Resize', scale=(8, 8))`` is a dict. Quotes
and brackets mean something only where a value begins: ``refs(unc).p`` and ``o'clock`` are words.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

CLOSING = {'[': ']', '(': ')', '{': '}'}
QUOTES = ('"', "'")
DEEPEST = 40


class Overrides(argparse.Action):
    """Collects ``KEY=VALUE`` arguments in a dict."""

    def __call__(self, parser, namespace, values, option_string=None) -> None:
        options = dict(getattr(namespace, self.dest, None) or {})
        for text in values:
            key, equals, value = text.partition('=')
            if not key.strip() or not equals:
                parser.error(f'{option_string}: expected KEY=VALUE, found {text!r}')
            try:
                options[key.strip()] = parse_value(value)
            except ValueError as error:
                parser.error(f'{option_string} {key}: {error}')
        setattr(namespace, self.dest, options)


def parse_value(text: str, depth: int = 0) -> Any:
    """The value that a text stands for; nothing is evaluated.

    Raises:
        ValueError: Brackets or quotes do not match, or a dict has no such form.
    """
    text = text.strip()
    if depth > DEEPEST:
        raise ValueError(f'expected at most {DEEPEST} brackets within each other')
    if len(text) > 1 and text[0] in QUOTES and _end(text) == len(text):
        inner = text[1:-1]
        if not depth and inner[:1] in CLOSING and _end(inner) == len(inner):
            return parse_value(inner)  # key="[a,b]" from a shell that keeps the quotes
        return inner
    if text.startswith('dict(') and _end(text, start=4) == len(text):
        return _dict(text[5:-1], '=', depth)
    if text[:1] in CLOSING and _end(text) == len(text):
        if text[0] == '{':
            return _dict(text[1:-1], ':', depth)
        values = [parse_value(item, depth + 1) for item in _items(text[1:-1])]
        return tuple(values) if text[0] == '(' else values
    if depth == 0:
        items = list(_items(text))
        if len(items) > 1 or text.endswith(','):
            return [parse_value(item, 1) for item in items]
    if text[:1] in CLOSING and not _end(text):
        raise ValueError(f'expected brackets that match, found {text!r}')
    return _scalar(text)


def _scalar(text: str) -> int | float | bool | str | None:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return dict(true=True, false=False).get(text.lower(), None if text == 'None' else text)


def _dict(text: str, sign: str, depth: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for item in _items(text):
        key, mark, value = item.partition(sign)
        key = key.strip()
        if len(key) > 1 and key[0] in QUOTES and key[-1] == key[0]:
            key = key[1:-1]
        if not mark or not key or key in found:
            raise ValueError(
                f'expected different keys, each as key{sign}value, in a dict, found '
                f'{item.strip()!r}'
            )
        found[key] = parse_value(value, depth + 1)
    return found


def _end(text: str, start: int = 0) -> int:
    """Where the quotes or brackets that open at `start` are closed, behind the last one; 0 if
    nowhere."""
    if text[start] in QUOTES:
        return text.find(text[start], start + 1) + 1
    open_, fresh, place = [], True, start
    while place < len(text):
        letter = text[place]
        if letter in QUOTES and fresh:
            place = _end(text, place) - 1
            if place < 0:
                return 0
        elif letter in CLOSING:
            open_.append(CLOSING[letter])
        elif open_ and letter == open_[-1]:
            open_.pop()
            if not open_:
                return place + 1
        fresh = letter in '[({,:=' or (fresh and letter == ' ')
        place += 1
    return 0


def _items(text: str) -> Iterator[str]:
    """Parts between commas that are in no brackets and quotes."""
    first = place = 0
    fresh = True
    while place < len(text):
        letter = text[place]
        if letter == ',':
            yield text[first:place]
            first, fresh = place + 1, True
        elif letter in CLOSING or (letter in QUOTES and fresh):
            end = _end(text, place)
            if not end and letter in CLOSING:
                raise ValueError(f'expected brackets that match, found {text!r}')
            place = max(end - 1, place)
            fresh = False
        elif letter != ' ':
            fresh = letter in ':='
        place += 1
    if text[first:].strip():
        yield text[first:]

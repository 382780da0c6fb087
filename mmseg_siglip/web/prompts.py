"""What visitors type, as systems take it."""

from __future__ import annotations

import re
from collections.abc import Sequence

from mmseg_siglip.web.limits import Limits, Refusal

SEPARATORS = {'words': r'[,\n]', 'phrases': r'[;\n]'}
"""What stands between several, by what a system asks for."""
WORD = re.compile(r'[^,;|\n]+')


def typed_prompt(
    asks: str | None, given: str | Sequence[str], limits: Limits
) -> str | list[str] | None:
    """A system's prompt.

    Args:
        asks: See `System`.
        given: Words between commas, phrases between semicolons, or either in lines; a list of
            either; a question.
        limits: How many, and how long.

    Raises:
        Refusal: There is nothing, too much, or something where nothing is asked for.
    """
    several = SEPARATORS.get(asks)
    parts = re.split(several, given) if several and isinstance(given, str) else given
    parts = [part.strip() for part in ([parts] if isinstance(parts, str) else parts)]
    parts = [part for part in parts if part]
    if asks is None:
        if parts:
            raise Refusal('expected an image alone, found words beside it')
        return None
    if not parts:
        wanted = f'a {asks}' if asks == 'question' else asks
        raise Refusal(f'expected {wanted} beside the image, found nothing')
    check_amount(asks, parts, limits)
    return parts if several else parts[0]


def check_amount(name: str, texts: Sequence[str], limits: Limits) -> None:
    """Refuse more text than one request may have; synonyms are words, too.

    Args:
        name: What it is, for the error.
        texts: Words, phrases, or a question.
        limits: How many, and how long.

    Raises:
        Refusal: It is more.
    """
    letters = sum(map(len, texts))
    if letters > limits.letters:
        raise Refusal(f'{name}: expected at most {limits.letters} characters, found {letters}', 413)
    count = len(texts) if name == 'question' else sum(len(WORD.findall(text)) for text in texts)
    if count > limits.words:
        raise Refusal(f'{name}: expected at most {limits.words}, found {count}', 413)

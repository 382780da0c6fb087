"""What visitors type, as systems take it."""

from __future__ import annotations

import re

from mmseg_siglip.web.limits import Limits, Refusal

SEPARATORS = {'words': r'[,\n]', 'phrases': r'[;\n]'}
"""What stands between several, by what a system asks for."""


def prompt_of(asks: str | None, text: str, limits: Limits) -> str | list[str] | None:
    """A system's prompt.

    Args:
        asks: See `System`.
        text: Words between commas, phrases between semicolons, or either in lines; a question.
        limits: How many, and how long.

    Raises:
        Refusal: There is nothing, too much, or something where nothing is asked for.
    """
    text = text.strip()
    if asks is None:
        if text:
            raise Refusal('expected an image alone, found words beside it')
        return None
    if not text:
        raise Refusal(f'expected {asks} beside the image, found nothing')
    if len(text) > limits.letters:
        raise Refusal(
            f'{asks}: expected at most {limits.letters} characters, found {len(text)}', 413
        )
    if asks not in SEPARATORS:
        return text
    parts = [part.strip() for part in re.split(SEPARATORS[asks], text)]
    parts = [part for part in parts if part]
    if not parts:
        raise Refusal(f'expected {asks} beside the image, found {text!r}')
    if len(parts) > limits.words:
        raise Refusal(f'{asks}: expected at most {limits.words}, found {len(parts)}', 413)
    return parts

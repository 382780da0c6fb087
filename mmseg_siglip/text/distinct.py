"""Words that differ for us and not for an encoder: one of them could never be found.

SigLIP reads words lower-cased and without punctuation, so that "C++" and "C#" are both "c", "?" is
nothing, and "dog/cat" is "dogcat"; a tokenizer may lack the letters of a language.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from typing import Any, Protocol

from mmengine.logging import print_log

from mmseg_siglip.text.vocabulary import Vocabulary, same


class Reader(Protocol):
    """An encoder's words; `tokenizer` is None where it has none."""

    tokenizer: Any

    def token_rows(self, texts: Sequence[str]) -> list[tuple[int, ...]]:
        """The token ids of each text, without padding."""


def check_distinct(vocabulary: Vocabulary, reader: Reader) -> Vocabulary:
    """The vocabulary, if its classes differ for an encoder. Words that it repeats on purpose, and
    words of one class, may be the same.

    Raises:
        ValueError: Two classes have a word that reads the same, or a word reads as nothing.
    """
    if reader.tokenizer is None:
        return vocabulary
    seen: dict[tuple[int, ...], tuple[int, str]] = {}
    words = list(zip(vocabulary.query_to_class, vocabulary.queries, strict=True))
    nothing, *rows = reader.token_rows(['', *vocabulary.queries])
    for row, (index, word) in zip(rows, words, strict=True):
        if row == nothing:
            raise ValueError(f'{_name(vocabulary, index)}: {word!r} {_UNREAD}')
        other, twin = seen.setdefault(row, (index, word))
        if other != index and same(twin) != same(word):
            raise ValueError(
                f'{_name(vocabulary, index)}: {word!r} reads the same as {twin!r} of '
                f'{_name(vocabulary, other)} to this encoder, so one could never be found; use '
                'words that differ in more than punctuation, case and unknown letters'
            )
    _tell_joined([word for _, word in words], reader)
    return vocabulary


def _tell_joined(words: Sequence[str], reader: Reader) -> None:
    """Log which words of several parts read as one."""
    found = []
    for word in words:
        together, apart = (re.sub('[-/]', new, word) for new in ('', ' '))
        if together != word:
            read, joined, spaced = reader.token_rows([word, together, apart])
            if read == joined != spaced:
                found.append((word, together))
    if found:
        word, together = found[0]
        print_log(
            f'{len(found)} words read without the marks between their parts, such as {word!r} as '
            f'{together!r}; where they are several words, spell them with spaces',
            'current',
        )


def check_phrases_distinct(phrases: Sequence[str], reader: Reader) -> None:
    """`check_distinct` of phrases.

    Raises:
        ValueError: One reads as nothing, or two different ones read the same.
    """
    if reader.tokenizer is None:
        return
    nothing, *rows = reader.token_rows(['', *phrases])
    seen: dict[tuple[int, ...], str] = {}
    for row, phrase in zip(rows, phrases, strict=True):
        if row == nothing:
            raise ValueError(f'the phrase {phrase!r} {_UNREAD}')
        twin = seen.setdefault(row, phrase)
        if same(twin) != same(phrase):
            raise ValueError(f'the phrases {twin!r} and {phrase!r} read the same to this encoder')


def warn_of_silence(phrases: Sequence[str], reader: Reader) -> None:
    """Say which phrases of a data set read as nothing; those that are empty are meant to be."""
    suspects = [text for text in phrases if text.strip() and not any(map(str.isalnum, text))]
    if not suspects:
        return
    nothing, *rows = reader.token_rows(['', *suspects])
    for row, phrase in zip(rows, suspects, strict=True):
        if row == nothing:
            warnings.warn(f'the phrase {phrase!r} {_UNREAD}', stacklevel=2)


_UNREAD = (
    'reads as nothing to this encoder, which leaves out punctuation or does not know its letters; '
    'use words that it reads'
)


def _name(vocabulary: Vocabulary, index: int) -> str:
    return f'class {index}, {vocabulary.names[index]!r}'

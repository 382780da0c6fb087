"""A vocabulary: the classes of a task, each with the words that stand for it.

File format, one class a line::

    # a comment
    #! duplicates: bed
    [background] sky, wall, tree
    person, person in shirt
    traffic light

The first word of a line is the class's name, the others are its synonyms; ``|`` may stand between
them in the place of a comma. ``[background]`` marks the one class that stands for everything else,
which is called "background" whatever its words are. ``#! duplicates:`` lists the only words that
may occur twice; published lists that do so carry it.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

from mmseg_siglip.misspelt import did_you_mean

BUNDLED = Path(__file__).parent / 'vocabularies'
BACKGROUND = '[background]'
BACKGROUND_NAME = 'background'
DUPLICATES = '#! duplicates:'


def bundled_names() -> tuple[str, ...]:
    """Names that ``Vocabulary.load`` takes without a path, sorted."""
    return tuple(sorted(file.stem for file in BUNDLED.glob('*.txt')))


def split_words(text: str) -> str | list[str]:
    """What a person's text means, for `Vocabulary.load`.

    The name of a bundled vocabulary, the path of a file, and anything that ends in ``.txt`` are a
    vocabulary's, and stay as they are. Everything else is words between commas, each a class:
    ``'cat, dog'`` two, ``'cat'`` one, ``'car|automobile, dog'`` two, the first with a synonym.

    Raises:
        ValueError: The text looks like the misspelt name of a vocabulary: no word of a language,
            as it holds a digit or an underscore, but near to such a name.
    """
    if text in bundled_names() or os.path.isfile(text) or text.lower().endswith('.txt'):
        return text
    if re.fullmatch(r'\w*[\d_]\w*', text):
        meant = did_you_mean(text.lower(), bundled_names(), likeness=0.75)
        if meant:
            raise ValueError(f'no vocabulary {text!r}{meant}')
    return [word.strip() for word in text.split(',')]


def clean(word: str) -> str:
    """NFC-normalise, and make each run of white space one space (none at the ends)."""
    return ' '.join(unicodedata.normalize('NFC', word).split())


def same(word: str) -> str:
    """Key under which two words count as one: caseless and canonical."""
    return unicodedata.normalize('NFC', clean(word).casefold())


@dataclass(frozen=True)
class Vocabulary:
    """Classes in the order of their indices.

    Attributes:
        classes: The query words of each class.
        background_index: Index of the class that stands for everything else.
    """

    classes: tuple[tuple[str, ...], ...]
    background_index: int | None = None

    def __len__(self) -> int:
        return len(self.classes)

    def __deepcopy__(self, memo: dict) -> Vocabulary:
        """Itself, as nothing in it changes: MMEngine copies what a sample carries."""
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """What each class is called for people: its first word, and the background so: (C,)."""
        names = [words[0] for words in self.classes]
        if self.background_index is not None:
            names[self.background_index] = BACKGROUND_NAME
        return tuple(names)

    @property
    def lines(self) -> list[str]:
        """One item a class, of which `load` makes the same vocabulary."""
        marks = [f'{BACKGROUND} ' * (index == self.background_index) for index in range(len(self))]
        return [mark + ', '.join(words) for mark, words in zip(marks, self.classes, strict=True)]

    @property
    def queries(self) -> tuple[str, ...]:
        """All words, class after class: (Q,)."""
        return tuple(word for words in self.classes for word in words)

    @property
    def query_to_class(self) -> tuple[int, ...]:
        """Class index of each query: (Q,), values in [0, len(self))."""
        return tuple(index for index, words in enumerate(self.classes) for _ in words)

    @classmethod
    def load(cls, source: str | Path | Sequence[str] | Vocabulary) -> Vocabulary:
        """Make a vocabulary from whatever names one.

        Args:
            source: A bundled name such as ``'voc21'``, the path of a file, or a list with one
                class an item, which may hold synonyms and the background mark as a line of a file.

        Raises:
            ValueError: If nothing has that name, or the list is none, is empty, or holds an empty
                or repeated word; the message gives the word and its line.
        """
        if isinstance(source, Vocabulary):
            return source
        if isinstance(source, (str, Path)):
            return cls._from_file(source)
        if not isinstance(source, Iterable) or isinstance(source, (bytes, Mapping, Set)):
            raise ValueError(
                "words: expected a list such as ['cat', 'dog'], or the name or file of a "
                f'vocabulary, found {source!r}'
            )
        items = list(source)
        for index, item in enumerate(items):
            if not isinstance(item, str):
                raise ValueError(f'class {index} is {item!r}, expected a string')
        return _parse(((f'class {index}', item) for index, item in enumerate(items)), 'the list')

    @classmethod
    def of_words(
        cls,
        words: str | Path | Sequence[str] | Vocabulary,
        *,
        background: str | Sequence[str] | bool | None = None,
    ) -> Vocabulary:
        """Make a vocabulary from what a person gives: `load`, but for a text, which may be words
        between commas, see `split_words`.

        Args:
            words: What to look for.
            background: Words that mean everything else: a list, or a text with commas or ``|``
                between them; True is the word "background". They become class 0, and the indices
                of the others one more.

        Raises:
            ValueError: As of `load` and `split_words`; or there is a background already, or one of
                its words is another class's.
        """
        found = cls.load(split_words(words) if isinstance(words, str) else words)
        if background is None or background is False:
            return found
        if found.background_index is not None:
            raise ValueError(
                f'background: expected none, as class {found.background_index} of the words is '
                f'marked {BACKGROUND}'
            )
        text = BACKGROUND_NAME if background is True else background
        text = text if isinstance(text, str) else ','.join(cls.load(text).queries)
        (rest,) = _parse([('the background', text)], 'the background').classes
        shared = {same(word) for word in rest} & {same(word) for word in found.queries}
        called = {same(name) for name in found.names} & {BACKGROUND_NAME}
        if shared or called:
            raise ValueError(
                f'background: expected other words than those to look for, found '
                f'{min(shared or called)!r} in both'
            )
        return cls((rest, *found.classes), 0)

    @classmethod
    def _from_file(cls, source: str | Path) -> Vocabulary:
        bundled = str(source) in bundled_names()
        path = BUNDLED / f'{source}.txt' if bundled else Path(source)
        if not os.path.isfile(path):  # Path.is_file raises on a list that is too long for a name
            raise ValueError(
                f"no vocabulary '{source}': it is neither a file nor one of the bundled "
                f'{", ".join(bundled_names())}{did_you_mean(source, bundled_names())}'
            )
        try:
            text = path.read_bytes().decode('utf-8-sig')
        except UnicodeDecodeError as error:
            raise ValueError(
                f'{path} is not UTF-8 text: {error.reason} at byte {error.start}'
            ) from None
        lines = [line.strip() for line in re.split('\r\n|\r|\n', text)]
        allowed: set[str] = set()
        entries = []
        for number, line in enumerate(lines, 1):
            if line.startswith(DUPLICATES):
                allowed.update(same(word) for word in line[len(DUPLICATES) :].split(','))
            elif line.startswith('#!'):
                raise ValueError(f"{path}, line {number}: unknown directive '{line}'")
            elif line and not line.startswith('#'):
                entries.append((f'{path}, line {number}', line))
        return _parse(entries, str(path), allowed)


def _parse(
    entries: Iterable[tuple[str, str]], where: str, allowed: Iterable[str] = ()
) -> Vocabulary:
    """Read (place, text) entries, one class each.

    Args:
        where: What the entries come from, for the error on an empty list.
        allowed: Keys of ``same`` that may occur more than once.
    """
    classes: list[tuple[str, ...]] = []
    background = None
    seen: dict[str, str] = {}
    for place, text in entries:
        text = text.strip()
        if text.startswith(BACKGROUND):
            if background is not None:
                raise ValueError(f'{place}: a second background, the first is class {background}')
            background = len(classes)
            text = text[len(BACKGROUND) :]
        if ';' in text:
            raise ValueError(f"{place}: ';' in '{text}', synonyms are separated by commas")
        words = tuple(clean(word) for word in re.split('[,|]', text))
        for word in words:
            if not any(mark.isprintable() and not mark.isspace() for mark in word):
                raise ValueError(f"{place}: empty name in '{text}'")
            key = same(word)
            if key in seen and key not in allowed:
                raise ValueError(f"{place}: '{word}' is there already, at {seen[key]}")
            seen.setdefault(key, place)
        classes.append(words)
    if not classes:
        raise ValueError(f'the vocabulary is empty: {where} names no class')
    for index, words in enumerate(classes):
        if background not in (None, index) and same(words[0]) == BACKGROUND_NAME:
            raise ValueError(
                f'{where}: class {index} is {words[0]!r}, the name of class {background}, which is '
                f'marked {BACKGROUND}'
            )
    return Vocabulary(tuple(classes), background)

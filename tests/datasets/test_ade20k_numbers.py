from __future__ import annotations

from mmseg_siglip.datasets.ade20k_numbers import NUMBERS
from mmseg_siglip.text.vocabulary import Vocabulary


def test_numbers_follow_the_alphabet_of_the_vocabulary():
    """ADE20K numbers its classes alphabetically: numbers and words agree, up to what commas do."""
    words = Vocabulary.load('ade847').names
    assert len(NUMBERS) == len(set(NUMBERS)) == len(words) == 847
    assert NUMBERS[0] == 2978 and words[0] == 'wall'
    early = sorted(
        (number, word) for number, word in zip(NUMBERS, words, strict=True) if number < 3100
    )
    assert len(early) > 820
    neighbours = list(zip(early, early[1:], strict=False))
    swapped = [(a, b) for (_, a), (_, b) in neighbours if a.split()[0] > b.split()[0]]
    assert len(swapped) < 10 < len(neighbours) / 50

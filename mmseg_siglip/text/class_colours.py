"""Colours of classes, which stay with their names.

Two colours are as far apart as CIE76 has it: by the distance of their L*, a*, b*.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import lru_cache

import cv2
import numpy as np

from mmseg_siglip.text.vocabulary import same

NATURAL = {
    '000000': 'background',
    '6ebeff': 'sky',
    'ebf0f5': 'snow cloud clouds white',
    '195fbe': 'water sea river lake ocean pool',
    '5faf2d': 'grass lawn meadow field',
    '145f28': 'tree trees forest bush plant vegetation',
    '69696e': 'road street asphalt grey gray',
    'aaa5aa': 'sidewalk pavement concrete silver',
    'e6c882': 'sand beach desert',
    '7d5028': 'ground soil earth dirt mud brown',
    'be8750': 'wood floor table',
    'a54132': 'brick roof rust',
    'ff6900': 'fire flame carrot pumpkin',
    'dc143c': 'person people human red',
    'ffdc00': 'sun banana lemon yellow',
    'ffa01e': 'orange',
    'ff91af': 'flower pig pink',
    '783296': 'grape eggplant purple violet',
    '00d7d7': 'cyan turquoise',
    'e628d2': 'magenta',
    '00dc00': 'green',
    '1e1eff': 'blue',
    'beeb28': 'lime',
}
"""Colours that words have by themselves; of several words, the first has first claim."""

OTHERS = """
    b43ca5 00a596 0f2de1 d2962d 5ae1ff 1ec396 005aff e13cff b400ff 4b87d2
    4b6996 9687d2 d296c3 ffb4ff 1e96c3 a59669 87782d 6969f0 ff1e00 783c4b
    783cc3 87ffa5 b4f0a5 961ed2 3cd269 876996 e178d2 d2693c 007878 4b5a00
    b47887 c396ff 2d3c5a ff695a 780f2d c3d278 d2c34b 87a53c a5c32d f04bb4
    69a5a5 f00087 b40069 e15a96 f05a78 783c78 c31e00 2d965a ffa578 a5ff00
    4b785a 0f4b3c 0f6900 78d21e ff78ff 78965a 87c396 3cffd2 a5e1d2 0f3cb4
    87ff78 f0c3a5 a5a5d2 3c3c78 b4f078 c369ff ff0f69 d27869 0fff69 a5d2f0
    f0d2ff d2e1b4 78004b 965a00
""".split()
"""Colours of other words. These and the natural ones are at least 20 apart."""

FEW = len(OTHERS) // 2
"""Names up to which `OTHERS` are enough."""

MANY = 256
"""Names up to which colours are kept apart, beyond which they only differ."""

APART = 8.5
TRIES = 64

Colour = tuple[int, int, int]


def rgb_of(digits: str) -> Colour:
    red, green, blue = bytes.fromhex(digits)
    return red, green, blue


BY_WORD = {
    word: (place, rgb_of(colour))
    for colour, words in NATURAL.items()
    for place, word in enumerate(words.split())
}
PART, NONE = 100, 200  # beyond the places


def class_colours(names: Sequence[str]) -> np.ndarray:
    """A colour for each name: (C, 3) uint8, RGB.

    A name has the same colour in every list, and in every process, unless another name there has
    first claim to it. Up to `FEW` names have colours at least 20 apart, up to `MANY` at least 8.
    """
    return np.array(_colours(tuple(map(same, names))), np.uint8).reshape(-1, 3)


@lru_cache(maxsize=16)
def _colours(keys: tuple[str, ...]) -> tuple[Colour, ...]:
    """Kept, as every image of a run has the same classes."""
    different = sorted(set(keys), key=_claim)
    few = len(different) <= FEW
    choose = _far if FEW < len(different) <= MANY else _other
    chosen: dict[str, Colour] = {}
    taken: dict[Colour, None] = {}
    for key in different:
        chosen[key] = choose(_wishes(key, few=few), taken)
        taken[chosen[key]] = None
    return tuple(chosen[key] for key in keys)


def natural_colour(key: str) -> tuple[int, Colour | None]:
    """The colour that a word has by itself, or its last or first part: of a palm tree a tree's.

    Returns:
        Whose claim to it is better, the lower; and the colour.
    """
    parts = key.split()
    for part in (key, *parts[-1:], *parts[:1]):
        if part in BY_WORD:
            place, colour = BY_WORD[part]
            return place + PART * (part != key), colour
    return NONE, None


def _claim(key: str) -> tuple[int, bytes]:
    """Whoever is first in this order has the first claim to a colour."""
    return natural_colour(key)[0], hashlib.sha256(key.encode()).digest()


def _wishes(key: str, *, few: bool) -> Iterator[Colour]:
    """The colours that a name would have, the dearest first."""
    _, natural = natural_colour(key)
    if natural is not None:
        yield natural
    numbers = hashlib.shake_256(key.encode()).digest(len(OTHERS) * 2 + TRIES * 3)
    order = np.frombuffer(numbers, '<u2', len(OTHERS)).argsort(kind='stable')
    for place in order if few else order[:1]:
        yield rgb_of(OTHERS[place])
    if not few:
        free = np.frombuffer(numbers, np.uint8, offset=len(OTHERS) * 2).reshape(TRIES, 3)
        yield from map(tuple, free.tolist())


def _other(wishes: Iterable[Colour], taken: Collection[Colour]) -> Colour:
    """The first wish that is not taken; the last, if all are."""
    for wish in wishes:
        if wish not in taken:
            break
    return wish


def _far(wishes: Iterable[Colour], taken: Collection[Colour]) -> Colour:
    """The first wish that is far enough from what is taken; the farthest, if none is."""
    wishes = list(wishes)
    if not taken:
        return wishes[0]
    distances = np.linalg.norm(lab_of(wishes)[:, None] - lab_of(taken), axis=-1).min(1)
    good = np.flatnonzero(distances >= APART)
    return wishes[good[0] if len(good) else distances.argmax()]


def lab_of(colours: Collection[Colour]) -> np.ndarray:
    """L*, a*, b* of sRGB colours (N, 3): (N, 3) float32."""
    values = np.array(list(colours), np.float32)[None] / 255
    return cv2.cvtColor(values, cv2.COLOR_RGB2Lab)[0]

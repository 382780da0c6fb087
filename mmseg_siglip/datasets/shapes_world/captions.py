"""What is true of a ShapesWorld picture, and sentences that say it.

A *fact* is a statement such as "a star is seen" or "a red star is left of a blue ring". Pictures
have facts, captions claim facts, so it is known of any caption and any picture whether they fit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from open_clip import OPENAI_IMAGENET_TEMPLATES

from mmseg_siglip.datasets.shapes_world.scene import (
    COLOURS,
    PAIRS,
    SHAPES,
    STUFF,
    ShapesScene,
)

RELATIONS = ('left of', 'right of', 'above', 'below')
SYNONYMS = {
    'circle': ('disc',),
    'ring': ('hoop',),
    'cross': ('plus sign',),
    'crescent': ('moon',),
    'grass': ('lawn',),
    'water': ('sea',),
    'brick': ('brick wall',),
    'sand': ('beach',),
    'wood': ('planks',),
}

ALWAYS = 0
_SHAPE = 1
_COLOUR = _SHAPE + len(SHAPES)
_PAIR = _COLOUR + len(COLOURS)
_STUFF = _PAIR + len(PAIRS)
_ON = _STUFF + len(STUFF)
_RELATION = _ON + len(PAIRS) * len(STUFF)
NUM_FACTS = _RELATION + len(RELATIONS) * len(PAIRS) ** 2
MAX_CLAIMS = 3

SEEN_SHARE = 0.35  # of an object's visible pixels: what must be in the window to name its shape
SEEN_OBJECT = 0.01  # of the window's pixels, to be worth naming
NAMED_GROUND = (0.1, 0.3)  # of the window's pixels: less is not there, more is worth naming
CLEARLY_APART = 0.15  # of the window's side, for a word of position
CLEARLY_ON = 0.9  # of the pixels around an object


@dataclass(frozen=True)
class Observation:
    """Facts about a picture or a window of it.

    Attributes:
        certain: (NUM_FACTS,) bool, what is plainly to be seen.
        possible: (NUM_FACTS,) bool, a superset; what is between the two is a matter of opinion.
    """

    certain: np.ndarray
    possible: np.ndarray


@dataclass(frozen=True)
class Caption:
    """A sentence and the facts that it claims, as indices."""

    text: str
    claims: tuple[int, ...]


def shape_fact(shape: str) -> int:
    return _SHAPE + SHAPES.index(shape)


def colour_fact(colour: str) -> int:
    return _COLOUR + tuple(COLOURS).index(colour)


def pair_fact(pair: int) -> int:
    return _PAIR + pair


def stuff_fact(stuff: str) -> int:
    return _STUFF + STUFF.index(stuff)


def on_fact(pair: int, stuff: str) -> int:
    return _ON + pair * len(STUFF) + STUFF.index(stuff)


def relation_fact(relation: str, first: int, second: int) -> int:
    return _RELATION + (RELATIONS.index(relation) * len(PAIRS) + first) * len(PAIRS) + second


def observe(
    scene: ShapesScene,
    window: tuple[int, int, int, int] | None = None,
    *,
    ground: tuple[float, float] = NAMED_GROUND,
) -> Observation:
    """Reads the facts off a scene's own label maps.

    Args:
        scene: A scene.
        window: (top, left, height, width), pixels; the whole picture if None.
        ground: Shares of the pixels: a kind of ground that covers less than the first is not
            there, one that covers at least the second is certain.
    """
    top, left, height, width = window or (0, 0, *scene.classes.shape)
    view = np.s_[top : top + height, left : left + width]
    certain, possible = np.zeros((2, NUM_FACTS), bool)
    certain[ALWAYS] = possible[ALWAYS] = True

    area = height * width
    shown = np.bincount(scene.instances[view].ravel(), minlength=len(scene.objects) + 1)[1:]
    counts = np.bincount(scene.classes[view].ravel(), minlength=len(SHAPES) + len(STUFF))
    for stuff, count in zip(STUFF, counts[len(SHAPES) :], strict=True):
        possible[stuff_fact(stuff)] = count > 0 and count >= ground[0] * area
        certain[stuff_fact(stuff)] = count > 0 and count >= ground[1] * area

    plain, faint = [], []
    for item, count in zip(scene.objects, shown, strict=True):
        if not count:
            continue
        facts = [shape_fact(item.shape), pair_fact(item.pair)]
        possible[[*facts, colour_fact(item.colour)]] = True
        if count < SEEN_OBJECT * area:
            faint.append(item)
            continue
        certain[colour_fact(item.colour)] = True
        if count >= SEEN_SHARE * item.area:
            certain[facts] = True
            plain.append(item)
        else:
            faint.append(item)

    for item in plain + faint:
        for stuff, share in ground_around(scene, item):
            possible[on_fact(item.pair, stuff)] = True
            if share >= CLEARLY_ON and item in plain:
                certain[on_fact(item.pair, stuff)] = certain[stuff_fact(stuff)]
    apart = CLEARLY_APART * min(height, width)
    for first in plain + faint:
        for second in plain + faint:
            if first is second:
                continue
            sure = first in plain and second in plain
            for relation in RELATIONS:
                gap = relation_gap(relation, first.centre, second.centre)
                fact = relation_fact(relation, first.pair, second.pair)
                possible[fact] |= gap > 0
                certain[fact] |= sure and gap > apart
    return Observation(certain, possible)


def relation_gap(relation: str, first: tuple[float, float], second: tuple[float, float]) -> float:
    """By how many pixels the first centre is on the named side of the second."""
    return {
        'left of': second[0] - first[0],
        'right of': first[0] - second[0],
        'above': second[1] - first[1],
        'below': first[1] - second[1],
    }[relation]


def ground_around(scene: ShapesScene, item) -> list[tuple[str, float]]:
    """Kinds of ground in the square around an object with their share of its ground pixels."""
    (x, y), reach = item.centre, 1.1 * item.radius
    rows = slice(max(0, int(y - reach)), int(y + reach) + 1)
    columns = slice(max(0, int(x - reach)), int(x + reach) + 1)
    counts = np.bincount(scene.classes[rows, columns].ravel(), minlength=len(SHAPES) + len(STUFF))[
        len(SHAPES) :
    ]
    return [(s, n / counts.sum()) for s, n in zip(STUFF, counts, strict=True) if n]


def fits(claims: np.ndarray, facts: np.ndarray) -> np.ndarray:
    """Whether every claim is among the facts.

    Args:
        claims: (M, MAX_CLAIMS) indices, padded with ``ALWAYS``.
        facts: (N, NUM_FACTS) bool.

    Returns:
        (N, M) bool.
    """
    return facts[:, claims].all(-1)


class Captioner:
    """Draws true sentences about an observation.

    Args:
        templates: Share of noun phrases put into one of the 80 ImageNet prompt templates of CLIP
            (https://github.com/openai/CLIP); the rest are bare words and plain sentences.
        synonyms: Share of words replaced by a synonym.
    """

    def __init__(self, *, templates: float = 0.4, synonyms: float = 0.2) -> None:
        self.templates = templates
        self.synonyms = synonyms

    def __call__(self, observation: Observation, rng: np.random.Generator) -> Caption:
        """One caption; claims only certain facts.

        Raises:
            ValueError: If nothing is certain.
        """
        certain = np.flatnonzero(observation.certain)
        pairs = certain[(certain >= _PAIR) & (certain < _STUFF)] - _PAIR
        stuff = certain[(certain >= _STUFF) & (certain < _ON)] - _STUFF
        colours = certain[(certain >= _COLOUR) & (certain < _PAIR)] - _COLOUR
        placed = certain[(certain >= _ON) & (certain < _RELATION)] - _ON
        related = certain[certain >= _RELATION] - _RELATION
        kinds = [
            (0.45, len(pairs), lambda: self._shape(rng, rng.choice(pairs))),
            (0.20, len(pairs), lambda: self._pair(rng, rng.choice(pairs))),
            (0.13, len(stuff), lambda: self._stuff(rng, rng.choice(stuff))),
            (0.05, len(colours), lambda: self._colour(rng, rng.choice(colours))),
            (0.05, len(placed), lambda: self._placed(rng, rng.choice(placed))),
            (0.07, len(pairs) > 1, lambda: self._several(rng, pairs)),
            (0.05, len(related), lambda: self._related(rng, rng.choice(related))),
        ]
        weights = np.array([weight if possible else 0.0 for weight, possible, _ in kinds])
        if not weights.any():
            raise ValueError('a caption needs something to be seen, the observation is empty')
        return kinds[rng.choice(len(kinds), p=weights / weights.sum())][2]()

    def _word(self, rng: np.random.Generator, word: str) -> str:
        if word in SYNONYMS and rng.random() < self.synonyms:
            return str(rng.choice(SYNONYMS[word]))
        return word

    def _name(self, rng: np.random.Generator, pair: int) -> str:
        colour, shape = PAIRS[pair]
        return f'{colour} {self._word(rng, shape)}'

    def _phrase(self, rng: np.random.Generator, noun: str) -> str:
        if rng.random() < self.templates:
            return OPENAI_IMAGENET_TEMPLATES[rng.integers(len(OPENAI_IMAGENET_TEMPLATES))](noun)
        plain = (noun, noun, f'a {noun}', f'the {noun}', f'a photo of a {noun}.')
        return plain[rng.integers(len(plain))]

    def _shape(self, rng: np.random.Generator, pair: int) -> Caption:
        shape = PAIRS[pair][1]
        return Caption(self._phrase(rng, self._word(rng, shape)), (shape_fact(shape),))

    def _pair(self, rng: np.random.Generator, pair: int) -> Caption:
        return Caption(self._phrase(rng, self._name(rng, pair)), (pair_fact(pair),))

    def _stuff(self, rng: np.random.Generator, index: int) -> Caption:
        return Caption(
            self._phrase(rng, self._word(rng, STUFF[index])), (stuff_fact(STUFF[index]),)
        )

    def _colour(self, rng: np.random.Generator, index: int) -> Caption:
        colour = tuple(COLOURS)[index]
        text = rng.choice((colour, f'something {colour}', f'a {colour} shape'))
        return Caption(str(text), (colour_fact(colour),))

    def _placed(self, rng: np.random.Generator, index: int) -> Caption:
        pair, stuff = divmod(int(index), len(STUFF))
        verb = rng.choice(('on', 'lying on', 'in front of'))
        text = f'a {self._name(rng, pair)} {verb} {self._word(rng, STUFF[stuff])}'
        return Caption(text, (on_fact(pair, STUFF[stuff]),))

    def _several(self, rng: np.random.Generator, pairs: np.ndarray) -> Caption:
        chosen = rng.choice(pairs, min(len(pairs), rng.integers(2, MAX_CLAIMS + 1)), replace=False)
        if rng.random() < 0.5:
            names = [self._name(rng, pair) for pair in chosen]
            claims = tuple(pair_fact(pair) for pair in chosen)
        else:
            shapes = [PAIRS[pair][1] for pair in chosen]
            names = [self._word(rng, shape) for shape in dict.fromkeys(shapes)]
            claims = tuple(shape_fact(shape) for shape in dict.fromkeys(shapes))
        text = ' and '.join(f'a {name}' for name in names)
        return Caption(text if rng.random() < 0.5 else f'a photo of {text}', claims)

    def _related(self, rng: np.random.Generator, index: int) -> Caption:
        relation, rest = divmod(int(index), len(PAIRS) ** 2)
        first, second = divmod(rest, len(PAIRS))
        text = f'a {self._name(rng, first)} {RELATIONS[relation]} a {self._name(rng, second)}'
        return Caption(text, (relation_fact(RELATIONS[relation], first, second),))


def padded(claims: tuple[int, ...]) -> tuple[int, ...]:
    """Claims filled up with ``ALWAYS`` to ``MAX_CLAIMS``."""
    return claims + (ALWAYS,) * (MAX_CLAIMS - len(claims))

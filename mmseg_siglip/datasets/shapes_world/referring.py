"""Referring expressions for ShapesWorld: phrases that fit exactly one object of a scene."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from mmseg_siglip.datasets.shapes_world.captions import RELATIONS, relation_gap
from mmseg_siglip.datasets.shapes_world.scene import ShapesObject, ShapesScene

CLEARLY_APART = 0.06  # of the picture's short side: less is neither left nor right
CLEARLY_LARGER = 1.15  # ratio of radii: less is neither larger nor smaller
CLEARLY_NEARER = 1.15  # ratio of depths

EXTREMES = (
    'leftmost',
    'rightmost',
    'topmost',
    'bottommost',
    'largest',
    'smallest',
    'nearest',
    'farthest',
)


@dataclass(frozen=True)
class ReferringExpression:
    """A phrase and the one object that it means.

    Attributes:
        text: Such as ``the red star left of the ring``.
        target: Index into the scene's ``objects``; its pixels are ``instances == target + 1``.
    """

    text: str
    target: int

    def mask(self, scene: ShapesScene) -> np.ndarray:
        """(H, W) bool, the visible pixels of the target."""
        return scene.instances == self.target + 1


def nouns(item: ShapesObject) -> tuple[str, ...]:
    """What an object may be called, the least precise first."""
    return f'{item.colour} shape', item.shape, f'{item.colour} {item.shape}'


def named(scene: ShapesScene, noun: str) -> list[int]:
    """Indices of the objects that a noun fits."""
    return [index for index, item in enumerate(scene.objects) if noun in nouns(item)]


def advantage(scene: ShapesScene, extreme: str, first: int, second: int) -> float:
    """How far the first object outdoes the second in being ``extreme``; 1 is a clear difference."""
    a, b = scene.objects[first], scene.objects[second]
    apart = CLEARLY_APART * min(scene.classes.shape)
    return {
        'leftmost': (b.centre[0] - a.centre[0]) / apart,
        'rightmost': (a.centre[0] - b.centre[0]) / apart,
        'topmost': (b.centre[1] - a.centre[1]) / apart,
        'bottommost': (a.centre[1] - b.centre[1]) / apart,
        'largest': np.log(a.radius / b.radius) / np.log(CLEARLY_LARGER),
        'smallest': np.log(b.radius / a.radius) / np.log(CLEARLY_LARGER),
        'nearest': np.log(b.depth / a.depth) / np.log(CLEARLY_NEARER),
        'farthest': np.log(a.depth / b.depth) / np.log(CLEARLY_NEARER),
    }[extreme]


def referring_expressions(scene: ShapesScene) -> list[ReferringExpression]:
    """Every phrase of the grammar that surely fits one object and surely no other.

    The grammar: ``the NOUN``, ``the EXTREME NOUN``, ``the NOUN RELATION the NOUN`` where the last
    noun names one object alone. An extreme is taken among two or more, and ``shape`` alone may
    stand with it. A phrase that needs a comparison too close to call is left out.
    """
    return [*_by_name(scene), *_by_extreme(scene), *_by_relation(scene)]


def _vocabulary(scene: ShapesScene) -> list[str]:
    return list(dict.fromkeys(noun for item in scene.objects for noun in nouns(item)))


def _by_name(scene: ShapesScene) -> Iterator[ReferringExpression]:
    for noun in _vocabulary(scene):
        fitting = named(scene, noun)
        if len(fitting) == 1:
            yield ReferringExpression(f'the {noun}', fitting[0])


def _by_extreme(scene: ShapesScene) -> Iterator[ReferringExpression]:
    groups = {noun: named(scene, noun) for noun in _vocabulary(scene)}
    groups['shape'] = list(range(len(scene.objects)))
    for noun, group in groups.items():
        if len(group) < 2:
            continue
        for extreme in EXTREMES:
            for first in group:
                if all(advantage(scene, extreme, first, k) >= 1 for k in group if k != first):
                    yield ReferringExpression(f'the {extreme} {noun}', first)


def _by_relation(scene: ShapesScene) -> Iterator[ReferringExpression]:
    landmarks = {
        noun: found[0] for noun in _vocabulary(scene) if len(found := named(scene, noun)) == 1
    }
    for noun in _vocabulary(scene):
        group = named(scene, noun)
        for other_noun, other in landmarks.items():
            if other in group:
                continue
            for relation in RELATIONS:
                target = _sole(scene, group, _gap(scene, relation, other))
                if target is not None:
                    yield ReferringExpression(f'the {noun} {relation} the {other_noun}', target)


def _gap(scene: ShapesScene, relation: str, other: int) -> Callable[[int], float]:
    return lambda index: relation_gap(
        relation, scene.objects[index].centre, scene.objects[other].centre
    )


def _sole(scene: ShapesScene, group: list[int], gap: Callable[[int], float]) -> int | None:
    """The member that clearly stands in the relation, if the rest clearly do not."""
    apart = CLEARLY_APART * min(scene.classes.shape)
    inside = [index for index in group if gap(index) >= apart]
    outside = [index for index in group if gap(index) <= -apart]
    return inside[0] if len(inside) == 1 and len(outside) == len(group) - 1 else None

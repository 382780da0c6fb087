"""ShapesWorld questions with one-word answers, every answer as frequent as the others."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from mmengine.structures import BaseDataElement
from torch.utils.data import Dataset

from mmseg_siglip.datasets.shapes_world.referring import advantage
from mmseg_siglip.datasets.shapes_world.scene import (
    COLOURS,
    SHAPES,
    ShapesScene,
    generate,
    scene_seed,
)
from mmseg_siglip.registry import DATASETS

PLURALS = {'cross': 'crosses'} | {s: f'{s}s' for s in SHAPES if s != 'cross'}
NUMBERS = ('zero', 'one', 'two')
KINDS = {
    'count': NUMBERS,
    'colour': tuple(COLOURS),
    'nearest': SHAPES,
    'farthest': SHAPES,
}
"""Kinds of question and their possible answers."""


@dataclass(frozen=True)
class ShapesQuestion:
    """A question, its answer, its kind, and the shape that it asks about, if any."""

    text: str
    answer: str
    kind: str
    subject: str = ''


def all_questions(scene: ShapesScene) -> Iterator[ShapesQuestion]:
    """Every question that a scene answers beyond doubt.

    ``count``: of more than two of a shape nothing is asked. ``colour``: of shapes that occur once.
    ``nearest`` and ``farthest``: where the object is clearly so among all (see `advantage`).
    """
    shapes = [item.shape for item in scene.objects]
    for shape in SHAPES:
        count = shapes.count(shape)
        if count < len(NUMBERS):
            yield ShapesQuestion(f'how many {PLURALS[shape]}?', NUMBERS[count], 'count', shape)
        if count == 1:
            colour = scene.objects[shapes.index(shape)].colour
            yield ShapesQuestion(f'what colour is the {shape}?', colour, 'colour', shape)
    if len(shapes) < 2:
        return
    for kind, first in (('farthest', 0), ('nearest', len(shapes) - 1)):
        rest = (k for k in range(len(shapes)) if k != first)
        if all(advantage(scene, kind, first, k) >= 1 for k in rest):
            yield ShapesQuestion(f'which shape is {kind}?', shapes[first], kind)


@DATASETS.register_module()
class ShapesQuestionDataset(Dataset):
    """Scenes of one split, each item with one question.

    The items go through the kinds and, within a kind, through its answers in turn; subject and
    scene are drawn at random among those that have the answer. So whoever has not seen the picture
    has the chance of a guess, for every subject. The held-out colour-shape pairs never occur, in
    any split, so a guess of a colour is right once in five times.

    Args:
        num_questions: Items.
        turns: Questions of an item. Those after the first are about the same scene, drawn with
            weights that make up for rare answers.
        num_scenes: Scenes of the split, drawn on first use and kept.
        split: ``train``, ``val`` or ``test``.
        size: (height, width), pixels.
        kinds: Which of ``count``, ``colour``, ``nearest``, ``farthest``.
        test_mode: See MMEngine; without effect.

    Raises:
        ValueError: A kind or the split is unknown, or no scene has an answer.
    """

    def __init__(
        self,
        *,
        num_questions: int,
        turns: int = 1,
        num_scenes: int = 4096,
        split: str = 'train',
        size: tuple[int, int] = (64, 64),
        kinds: Sequence[str] = tuple(KINDS),
        test_mode: bool = False,
    ) -> None:
        unknown = [kind for kind in kinds if kind not in KINDS]
        if unknown or not kinds:
            raise ValueError(
                f'kinds: expected some of {", ".join(KINDS)}, found {", ".join(unknown) or "none"}'
            )
        if turns < 1:
            raise ValueError(f'turns: expected 1 or more, found {turns}')
        scene_seed(split, num_scenes - 1)
        self.num_questions, self.turns, self.num_scenes = num_questions, turns, num_scenes
        self.split, self.size, self.kinds = split, tuple(size), tuple(kinds)
        self.metainfo = dict(answers={kind: KINDS[kind] for kind in self.kinds})
        self._scenes: list[ShapesScene] = []
        self._asked: list[list[ShapesQuestion]] = []
        self._places: dict[tuple[str, str], dict[str, list[tuple[int, ShapesQuestion]]]] = {}

    def __len__(self) -> int:
        return self.num_questions

    def __getitem__(self, index: int) -> dict:
        """``inputs``: (3, H, W) uint8, RGB; ``data_samples``: question, answer, kind, name, depth,
        further.

        ``depth`` is (H, W) float32, metres; ``further`` the (question, answer) of other turns.
        """
        if not 0 <= index < len(self):
            raise IndexError(index)
        if not self._places:
            self._draw()
        kind = self.kinds[index % len(self.kinds)]
        turn = index // len(self.kinds)
        answer = KINDS[kind][turn % len(KINDS[kind])]
        rng = np.random.default_rng((scene_seed(self.split, 0), index))
        by_subject = self._places[kind, answer]
        subjects = list(by_subject)
        if not subjects:
            raise ValueError(
                f'num_scenes: expected a scene where {kind} is {answer}, found none among '
                f'{self.num_scenes} of {self.split}'
            )
        found = by_subject[subjects[rng.integers(len(subjects))]]
        place, question = found[rng.integers(len(found))]
        scene = self._scenes[place]
        return dict(
            inputs=torch.from_numpy(scene.image).permute(2, 0, 1),
            data_samples=BaseDataElement(
                question=question.text,
                answer=question.answer,
                kind=question.kind,
                name=f'shapes_{self.split}_{place:06d}',
                depth=torch.from_numpy(scene.depth),
                further=[self._another(place, rng) for _ in range(self.turns - 1)],
            ),
        )

    def _another(self, place: int, rng: np.random.Generator) -> tuple[str, str]:
        """Question and answer about a scene: a kind, then an answer less the more often it is."""
        asked = self._asked[place]
        kinds = sorted({question.kind for question in asked})
        kind = kinds[rng.integers(len(kinds))]
        fitting = [question for question in asked if question.kind == kind]
        weights = np.array([1 / self._frequency[kind, q.answer] for q in fitting])
        question = fitting[rng.choice(len(fitting), p=weights / weights.sum())]
        return question.text, question.answer

    def _draw(self) -> None:
        places = {(kind, a): defaultdict(list) for kind in self.kinds for a in KINDS[kind]}
        for index in range(self.num_scenes):
            scene = generate(scene_seed(self.split, index), size=self.size)
            asked = [question for question in all_questions(scene) if question.kind in self.kinds]
            self._scenes.append(scene)
            self._asked.append(asked)
            for question in asked:
                places[question.kind, question.answer][question.subject].append((index, question))
        self._frequency = {key: sum(map(len, found.values())) for key, found in places.items()}
        self._places = places

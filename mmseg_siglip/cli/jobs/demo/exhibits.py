"""A system a row: what it sees in held-out scenes, and what a test of it measures.

Shapes: a picture is (H, W, 3) uint8, RGB; a map is (H, W).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from mmseg_siglip.api import SYSTEMS, Answer, DepthMap, Referred, Result, Segmentation, System
from mmseg_siglip.api.shipped import SHIPPED
from mmseg_siglip.cli.common import config_folder
from mmseg_siglip.cli.jobs.test import test
from mmseg_siglip.cli.main import parser_of
from mmseg_siglip.datasets.shapes_world.questions import all_questions
from mmseg_siglip.datasets.shapes_world.referring import referring_expressions
from mmseg_siglip.datasets.shapes_world.scene import (
    CLASSES,
    PAIR_CLASSES,
    ShapesScene,
    generate,
    scene_seed,
)

SCENES = 0, 1  # of the test split
SIZE = 128, 192
ENLARGED = 2
PROMPTS = 2
"""Phrases or questions for each scene."""

ALONE = (
    'log_level=WARNING',
    'test_dataloader.num_workers=0',
    'test_dataloader.persistent_workers=False',
)
"""Settings of a test that shares its process with others: no words, no processes."""


class Case(NamedTuple):
    """What a system is asked of a scene, and the truth."""

    asked: str
    answer: Result
    truth: Result


@dataclass(frozen=True)
class Exhibit:
    """A row of the gallery.

    Attributes:
        title: What is done.
        source: The system, one of `SHIPPED`.
        config: Below ``configs``: data and metrics of its test.
        scores: Names of metrics, and what people call them.
        pairs: Whether its words are colours and shapes.
        count: Setting of the data set that says how many samples the test has.
        samples: Samples of its test for each scene of the others'.
    """

    title: str
    source: str
    config: str
    scores: Mapping[str, str]
    pairs: bool = False
    count: str = 'num_scenes'
    samples: int = 1

    @property
    def asks(self) -> str | None:
        return SYSTEMS[SHIPPED[self.source].task].asks

    def command(self, images: int, configs: str = 'configs') -> list[str]:
        """The words of the command that tests it on so many scenes, without the program's name."""
        count = f'test_dataloader.dataset.{self.count}={images * self.samples}'
        return ['test', f'{configs}/{self.config}', self.source, '--cfg-options', count]

    def measure(self, images: int, work_dir: Path) -> dict[str, float]:
        """The scores of the command, by what people call them."""
        command, *argv = self.command(images, str(config_folder()))
        parser, _ = parser_of(command)
        metrics = test(parser.parse_args([*argv, *ALONE, '--work-dir', str(work_dir)]))
        return {name: float(metrics[key]) for key, name in self.scores.items()}


EXHIBITS = (
    Exhibit(
        'Open-vocabulary segmentation, training-free',
        'tiny_siglip_shapes',
        'sclip/shapes_best.py',
        dict(mIoU='mIoU'),
    ),
    Exhibit(
        'Open-vocabulary segmentation, trained',
        'shapes_cat_seg',
        'cat_seg/shapes.py',
        dict(mIoU_seen='mIoU of trained classes', mIoU_withheld='mIoU of others'),
        pairs=True,
    ),
    Exhibit(
        'Referring segmentation',
        'shapes_refer',
        'refer_sam/shapes.py',
        dict(oIoU='oIoU', mIoU='mIoU'),
    ),
    Exhibit(
        'Monocular depth',
        'shapes_depth',
        'dpt/shapes_frozen.py',
        {'depth/delta1': 'delta1', 'depth/abs_rel': 'AbsRel'},
    ),
    Exhibit(
        'Visual question answering',
        'shapes_chat',
        'vlm/shapes.py',
        {f'answers/{kind}': f'{kind}, % right' for kind in ('count', 'colour', 'nearest')},
        count='num_questions',
        samples=6,
    ),
)


def cases(exhibit: Exhibit, system: System, scene: ShapesScene) -> Iterator[Case]:
    """What a system answers about a scene, and what is true."""
    for asked, truth in questions_of(exhibit, scene):
        yield Case(asked, system(scene.image, asked or None), truth)


def questions_of(exhibit: Exhibit, scene: ShapesScene) -> Iterator[tuple[str, Result]]:
    """What there is to ask of a scene, empty where nothing is, and the true result."""
    certain = np.ones(scene.depth.shape, np.float32)
    if exhibit.asks == 'words':
        labels, names = (scene.pairs, PAIR_CLASSES) if exhibit.pairs else (scene.classes, CLASSES)
        words, places = np.unique(labels, return_inverse=True)
        seen = tuple(names[word] for word in words)
        labels = places.reshape(labels.shape).astype(np.int64)
        yield ', '.join(seen), Segmentation(labels, certain, seen, scene.image)
    elif exhibit.asks == 'phrases':
        for found in [*referring_expressions(scene)][-PROMPTS:]:
            yield found.text, Referred(found.mask(scene), 1.0, found.text, scene.image)
    elif exhibit.asks == 'question':
        for found in [*all_questions(scene)][-PROMPTS:]:
            yield found.text, Answer(found.answer, found.text, scene.image)
    else:
        yield '', DepthMap(scene.depth, 'metre', scene.image)


def draw_scene(number: int) -> ShapesScene:
    """A scene of the test split, as the systems see it."""
    return generate(scene_seed('test', number), size=SIZE)


def for_people(result: Result) -> Result:
    """The same over a picture of more pixels."""
    size = SIZE[1] * ENLARGED, SIZE[0] * ENLARGED
    if isinstance(result, Answer):
        image = cv2.resize(result.image, size, interpolation=cv2.INTER_CUBIC)
        return Answer(str(result), result.question, image, result.complete)
    changes: dict[str, Any] = {}
    for name, value in vars(result).items():
        if not isinstance(value, np.ndarray):
            continue
        smooth = name in ('image', 'depth')
        plain = value if smooth else value.astype(np.float32)
        way = cv2.INTER_CUBIC if smooth else cv2.INTER_NEAREST
        changes[name] = cv2.resize(plain, size, interpolation=way).astype(value.dtype)
    return replace(result, **changes)

"""Scenes of ShapesWorld to try: drawn at the start, no files."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from mmseg_siglip.datasets.shapes_world.questions import all_questions
from mmseg_siglip.datasets.shapes_world.referring import referring_expressions
from mmseg_siglip.datasets.shapes_world.scene import CLASSES, generate, scene_seed
from mmseg_siglip.web.results import png
from mmseg_siglip.web.uploads import Upload, preview_of

SCENES = (0, 1, 2, 3)  # of the val split
SIZE = (256, 384)
PHRASES = 2


@dataclass(frozen=True)
class Example:
    """A scene and what may be asked of it.

    Attributes:
        upload: Its picture.
        prompts: Text by what a system asks for.
    """

    upload: Upload
    prompts: dict[str, str]


def draw_examples() -> dict[str, Example]:
    """Examples by name."""
    return {f'example-{number}': draw_example(number) for number in SCENES}


def draw_example(number: int) -> Example:
    scene = generate(scene_seed('val', number), size=SIZE)
    seen = [CLASSES[index] for index in np.unique(scene.classes)]
    phrases = [expression.text for expression in referring_expressions(scene)][-PHRASES:]
    question = next((question.text for question in all_questions(scene)), '')
    prompts = dict(words=', '.join(seen), phrases='; '.join(phrases), question=question)
    image = png(Image.fromarray(scene.image))
    name, (height, width) = f'scene {number}', SIZE
    return Example(Upload(image, name, preview_of(scene.image), (width, height)), prompts)

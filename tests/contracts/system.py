"""What every system keeps: any form of image, one or several, results that draw, save and tell."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from mmseg_siglip.api import SYSTEMS, Result, System


def photograph(height: int = 40, width: int = 56, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)


def told(results: Any) -> list[dict]:
    """What JSON says of results."""
    several = isinstance(results, list)
    return [result.to_dict() for result in (results if several else [results])]


def near(value: Any) -> Any:
    """The same, numbers with room for the order of sums."""
    if isinstance(value, dict):
        return {key: near(item) for key, item in value.items()}
    if isinstance(value, list):
        return [near(item) for item in value]
    return pytest.approx(value, rel=1e-4, abs=1e-6) if isinstance(value, float) else value


class SystemContract:
    """Checks of one system.

    Args:
        task: Its key in `SYSTEMS`.
        system: It itself, in fp32.
        prompt: What it is asked.
        options: Further arguments of its call.
    """

    def __init__(self, task: str, system: System, prompt: Any, **options) -> None:
        self.task, self.system, self.prompt, self.options = task, system, prompt, options

    def answer(self, images: Any) -> Any:
        return self.system(images, self.prompt, **self.options)

    def check(self, folder: Path) -> None:
        """Everything below."""
        self.check_class()
        self.check_forms(folder)
        self.check_several()
        self.check_tensors()
        self.check_bad_input(folder)
        results = self.answer(photograph())
        for result in results if isinstance(results, list) else [results]:
            check_result(result, folder)

    def check_class(self) -> None:
        cls = type(self.system)
        assert SYSTEMS[self.task] is cls and cls.task == self.task
        assert cls.asks in ('words', 'phrases', 'question', None)

    def check_forms(self, folder: Path) -> None:
        """A path, a PIL image, an array and tensors are the same image."""
        rgb = photograph()
        Image.fromarray(rgb).save(folder / 'photo.png')
        tensor = torch.from_numpy(rgb).permute(2, 0, 1)
        forms = [folder / 'photo.png', str(folder / 'photo.png'), Image.fromarray(rgb)]
        expected = near(told(self.answer(rgb)))
        for form in [*forms, tensor, tensor.float() / 255]:
            assert told(self.answer(form)) == expected

    def check_several(self) -> None:
        """A list gives a list, each as alone."""
        images = [photograph(), photograph(30, 48, 1)]
        together = self.answer(images)
        assert isinstance(together, list) and len(together) == 2
        for image, results in zip(images, together, strict=True):
            alone = self.answer(image)
            assert type(results) is type(alone) and told(results) == near(told(alone))
        assert self.answer(images[:1])[0] is not None
        assert self.answer([]) == []

    def check_tensors(self) -> None:
        """The tensor twin says the same, of a batch and of a list."""
        image, prompt = photograph(), self.system.check_prompt(self.prompt)
        batch = torch.from_numpy(image).permute(2, 0, 1)[None]
        for images in (batch, list(batch)):
            (output,) = self.system.torch(images, prompt, **self.options)
            found = self.system._result(image, output, prompt)
            assert told(found) == near(told(self.answer(image)))

    def check_bad_input(self, folder: Path) -> None:
        (folder / 'broken.png').write_bytes(b'no picture')
        for image, message in (
            (folder / 'absent.png', 'absent.png: no such image file'),
            (folder / 'broken.png', 'broken.png is not an image of a known kind'),
            (np.zeros((4, 4)), r'expected an RGB array \(H, W, 3\) of uint8'),
            (torch.zeros(4, 4, 3), r'expected an RGB tensor \(3, H, W\)'),
            (torch.full((3, 40, 40), 255.0), r'float in \[0, 1\]'),
            ([None], 'expected an image, found a NoneType'),
            (None, 'expected an image'),
        ):
            with pytest.raises(ValueError, match=message):
                self.answer(image)
        with pytest.raises(ValueError, match='expected'):
            self.system(photograph(), None if self.system.asks else 'a prompt')


def check_result(result: Any, folder: Path) -> None:
    """It has the image it is about, draws, saves and is plain JSON."""
    assert isinstance(result, Result)
    height, width = result.image.shape[:2]
    assert result.image.dtype == np.uint8 and result.image.shape == (height, width, 3)
    picture = result.plot()
    assert picture.mode == 'RGB' and picture.width >= width and picture.height > height
    file = folder / f'photo.{result.suffix}'
    result.save(file)
    assert file.stat().st_size
    assert json.loads(json.dumps(result.to_dict())) == result.to_dict()

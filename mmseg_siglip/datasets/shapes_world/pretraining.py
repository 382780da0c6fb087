"""Image-text pairs from ShapesWorld: windows of many sizes, each with a sentence about itself."""

from __future__ import annotations

import cv2
import numpy as np
from torch.utils.data import Dataset

from mmseg_siglip.datasets.shapes_world.captions import NAMED_GROUND, Captioner, observe, padded
from mmseg_siglip.datasets.shapes_world.scene import ShapesScene, generate, scene_seed
from mmseg_siglip.registry import DATASETS

WIDEST = 1.6  # side of the largest window around an object, in diameters


@DATASETS.register_module()
class ShapesCaptionDataset(Dataset):
    """Square windows of scenes, scaled to one size, with captions and the facts behind them.

    Windows from a whole scene down to a part of one object make words belong to places: that is
    what lets single patches be read later. The held-out colour-shape pairs never occur, in any
    split.

    Args:
        image_size: Side of the images, pixels.
        num_scenes: Scenes of the split, drawn on first use and kept.
        windows: Windows cut from each scene; the data set has ``num_scenes * windows`` items.
        scene_size: (height, width) of the scenes, pixels.
        smallest: Side of the smallest window, pixels.
        around_objects: Share of windows laid around an object.
        closest: Side of the smallest of those, in diameters of the object; the largest has 1.6.
        ground: See `observe`.
        split: ``train``, ``val`` or ``test``.
    """

    def __init__(
        self,
        *,
        image_size: int,
        num_scenes: int = 4096,
        windows: int = 256,
        scene_size: tuple[int, int] = (128, 192),
        smallest: int = 16,
        around_objects: float = 0.8,
        closest: float = 0.5,
        ground: tuple[float, float] = NAMED_GROUND,
        split: str = 'train',
    ) -> None:
        if not 1 <= smallest <= min(scene_size):
            raise ValueError(f'smallest: expected 1 to {min(scene_size)} pixels, found {smallest}')
        if not 0 < closest <= WIDEST:
            raise ValueError(f'closest: expected above 0, at most {WIDEST}, found {closest}')
        if not 0 <= ground[0] <= ground[1] <= 1:
            raise ValueError(f'ground: expected two rising shares in [0, 1], found {ground}')
        scene_seed(split, num_scenes - 1)
        self.image_size = image_size
        self.num_scenes = num_scenes
        self.windows = windows
        self.scene_size = tuple(scene_size)
        self.smallest = smallest
        self.around_objects = around_objects
        self.closest = closest
        self.ground = tuple(ground)
        self.split = split
        self.captioner = Captioner()
        self._scenes: dict[int, ShapesScene] = {}

    def __len__(self) -> int:
        return self.num_scenes * self.windows

    def __getitem__(self, index: int) -> dict:
        """``inputs``: (3, S, S) uint8, BGR; ``data_samples``: caption, claims, facts, possible.

        Arrays, not samples: a batch is stacked by the loader's ``default_collate``.
        """
        scene = self.scene(index % self.num_scenes)
        rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence((scene.seed, index))))
        window = self.window(scene, rng)
        observation = observe(scene, window, ground=self.ground)
        caption = self.captioner(observation, rng)
        return dict(
            inputs=self.picture(scene, window),
            data_samples=dict(
                caption=caption.text,
                claims=np.array(padded(caption.claims)),
                facts=observation.certain,
                possible=observation.possible,
            ),
        )

    def scene(self, index: int) -> ShapesScene:
        if index not in self._scenes:
            self._scenes[index] = generate(scene_seed(self.split, index), size=self.scene_size)
        return self._scenes[index]

    def window(self, scene: ShapesScene, rng: np.random.Generator) -> tuple[int, int, int, int]:
        """(top, left, side, side), pixels."""
        height, width = self.scene_size
        largest = min(height, width)
        if scene.objects and rng.random() < self.around_objects:
            item = scene.objects[rng.integers(len(scene.objects))]
            side = item.radius * 2 * np.exp(rng.uniform(np.log(self.closest), np.log(WIDEST)))
            side = int(np.clip(side, self.smallest, largest))
            x, y = np.asarray(item.centre) + rng.uniform(-0.2, 0.2, 2) * side - side / 2
        else:
            side = int(np.exp(rng.uniform(np.log(self.smallest), np.log(largest + 1))))
            x, y = rng.uniform(0, width - side), rng.uniform(0, height - side)
        top, left = np.clip((y, x), 0, (height - side, width - side)).astype(int)
        return int(top), int(left), side, side

    def picture(self, scene: ShapesScene, window: tuple[int, int, int, int]) -> np.ndarray:
        """(3, S, S) uint8, BGR."""
        top, left, height, width = window
        crop = scene.image[top : top + height, left : left + width]
        method = cv2.INTER_AREA if height > self.image_size else cv2.INTER_CUBIC
        resized = cv2.resize(crop, (self.image_size, self.image_size), interpolation=method)
        return np.ascontiguousarray(resized[..., ::-1].transpose(2, 0, 1))

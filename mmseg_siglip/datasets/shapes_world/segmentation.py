"""ShapesWorld as a segmentation dataset: scenes drawn on demand, no files."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

import numpy as np
from mmengine.dataset import BaseDataset

from mmseg_siglip.datasets.shapes_world.scene import (
    CLASSES,
    COLOURS,
    HELD_OUT_PAIRS,
    PAIR_CLASSES,
    PAIRS,
    SHAPES,
    STUFF,
    generate,
    scene_seed,
)
from mmseg_siglip.registry import DATASETS

TASKS = {'shapes': CLASSES, 'pairs': PAIR_CLASSES}
GROUND_PALETTE = [(96, 150, 48), (64, 140, 190), (150, 80, 60), (222, 200, 150), (120, 80, 40)]


def palette(task: str) -> list[tuple[int, int, int]]:
    """Colours to draw a task's classes in, RGB: hues for shapes, own colours for pairs."""
    if task == 'pairs':
        fades = np.linspace(1, 0.55, len(SHAPES))
        things = [np.array(COLOURS[c]) * 255 * fades[SHAPES.index(s)] for c, s in PAIRS]
    else:
        hues = np.arange(len(SHAPES)) / len(SHAPES)
        things = [np.array(colorsys.hsv_to_rgb(hue, 0.85, 1.0)) * 255 for hue in hues]
    return [tuple(int(v) for v in colour) for colour in things] + GROUND_PALETTE


def class_groups(task: str) -> dict[str, list[int]]:
    """Class indices of the shapes, by whether training showed the pair, and of the grounds."""
    names = TASKS[task]
    ground = list(range(len(names) - len(STUFF), len(names)))
    if task == 'shapes':
        return dict(shapes=list(range(len(SHAPES))), ground=ground)
    return dict(
        seen_pairs=[i for i, pair in enumerate(PAIRS) if pair not in HELD_OUT_PAIRS],
        unseen_pairs=[i for i, pair in enumerate(PAIRS) if pair in HELD_OUT_PAIRS],
        ground=ground,
    )


@DATASETS.register_module()
class ShapesWorldDataset(BaseDataset):
    """Scenes of one split with label maps of one task.

    What a pipeline gets is already loaded: ``img`` (BGR), ``gt_seg_map`` and the whole
    ``scene``, a ``ShapesScene``, for transforms that need its depth, objects or sentences.

    Args:
        task: ``shapes``, 8 shapes and 5 grounds, or ``pairs``, 48 coloured shapes and 5 grounds.
        num_scenes: How many scenes, from the split's first.
        split: ``train``, ``val`` or ``test``.
        size: (height, width), pixels.
        held_out: Whether the held-out colour-shape pairs are shown; test only, if not given.
        pipeline: Transforms of a sample.
        test_mode: See MMEngine.

    Raises:
        ValueError: If the task or split is unknown, the split has fewer scenes, or held-out pairs
            are asked of the training split.
    """

    def __init__(
        self,
        *,
        task: str = 'shapes',
        num_scenes: int = 200,
        split: str = 'test',
        size: tuple[int, int] = (128, 192),
        held_out: bool | None = None,
        pipeline: Sequence[dict] = (),
        test_mode: bool = False,
    ) -> None:
        if task not in TASKS:
            raise ValueError(f"task must be one of {sorted(TASKS)}, got '{task}'")
        scene_seed(split, num_scenes - 1)
        held_out = split == 'test' if held_out is None else held_out
        if held_out and split == 'train':
            raise ValueError('held-out colour-shape pairs must not be shown in the training split')
        self.task, self.split, self.held_out = task, split, held_out
        self.num_scenes, self.size = num_scenes, tuple(size)
        super().__init__(
            metainfo=dict(
                classes=TASKS[task], palette=palette(task), class_groups=class_groups(task)
            ),
            pipeline=list(pipeline),
            serialize_data=False,
            test_mode=test_mode,
        )

    def load_data_list(self) -> list[dict]:
        return [
            dict(
                seed=scene_seed(self.split, index),
                img_path=f'shapes_{self.split}_{index:06d}.png',
                reduce_zero_label=False,
                label_map=None,
            )
            for index in range(self.num_scenes)
        ]

    def get_data_info(self, idx: int) -> dict:
        """The sample's results dict, its scene drawn."""
        info = super().get_data_info(idx)
        scene = generate(info['seed'], size=self.size, held_out=self.held_out)
        label = scene.pairs if self.task == 'pairs' else scene.classes
        return dict(
            info,
            scene=scene,
            img=np.ascontiguousarray(scene.image[..., ::-1]),
            img_shape=self.size,
            ori_shape=self.size,
            gt_seg_map=label.copy(),
            seg_fields=['gt_seg_map'],
        )

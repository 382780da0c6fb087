"""ShapesWorld as a referring data set: scenes drawn on demand, phrases from their grammar."""

from __future__ import annotations

import numpy as np

from mmseg_siglip.datasets.referring import PhraseDataset
from mmseg_siglip.datasets.shapes_world.captions import RELATIONS
from mmseg_siglip.datasets.shapes_world.referring import EXTREMES, referring_expressions
from mmseg_siglip.datasets.shapes_world.scene import generate, scene_seed
from mmseg_siglip.registry import DATASETS

KINDS = ('name', 'extreme', 'relation')


def kind_of(phrase: str) -> str:
    """Which rule of the grammar made a phrase."""
    if any(f' {relation} ' in phrase for relation in RELATIONS):
        return 'relation'
    return 'extreme' if phrase.split()[1] in EXTREMES else 'name'


@DATASETS.register_module()
class ShapesReferringDataset(PhraseDataset):
    """Scenes of one split with phrases that fit exactly one object each.

    A scene has 50 to 400 phrases, most of them relations; of each kind (``the heart``, ``the
    leftmost heart``, ``the heart left of the star``) as many are given as of any other, where
    there are so many.

    Args:
        num_scenes: How many scenes, from the split's first.
        split: ``train``, ``val`` or ``test``.
        size: (height, width), pixels.
        held_out: Whether the held-out colour-shape pairs are shown; test only, if not given.
        phrases_per_image: In tests 6 if not given, the same ones each time.
        kwargs: See `PhraseDataset`.

    Raises:
        ValueError: The split is unknown or has fewer scenes, or held-out pairs are asked of the
            training split.
    """

    def __init__(
        self,
        *,
        num_scenes: int = 200,
        split: str = 'test',
        size: tuple[int, int] = (128, 192),
        held_out: bool | None = None,
        phrases_per_image: int | None = None,
        test_mode: bool = False,
        **kwargs,
    ) -> None:
        scene_seed(split, num_scenes - 1)
        held_out = split == 'test' if held_out is None else held_out
        if held_out and split == 'train':
            raise ValueError('held-out colour-shape pairs must not be shown in the training split')
        self.num_scenes, self.split = num_scenes, split
        self.size, self.held_out = tuple(size), held_out
        if phrases_per_image is None and test_mode:
            phrases_per_image = 6
        super().__init__(
            phrases_per_image=phrases_per_image,
            test_mode=test_mode,
            serialize_data=False,
            **kwargs,
        )

    def load_data_list(self) -> list[dict]:
        return [
            dict(
                seed=scene_seed(self.split, index),
                img_path=f'shapes_{self.split}_{index:06d}.png',
            )
            for index in range(self.num_scenes)
        ]

    def get_data_info(self, idx: int) -> dict:
        """The sample's results dict, its scene drawn."""
        info = super().get_data_info(idx)
        scene = generate(info['seed'], size=self.size, held_out=self.held_out)
        phrases = referring_expressions(scene)
        chosen = self.choose(dict(info, text=[phrase.text for phrase in phrases]))
        return dict(
            info,
            img=np.ascontiguousarray(scene.image[..., ::-1]),
            img_shape=self.size,
            ori_shape=self.size,
            text=[phrases[i].text for i in chosen],
            targets=[phrases[i].target for i in chosen],
            mask_sources=[scene.instances == k + 1 for k in range(len(scene.objects))],
        )

    def choose(self, info: dict) -> list[int]:
        draw = np.random.default_rng(info['seed'] if self.test_mode else np.random.randint(2**31))
        left = {kind: [] for kind in KINDS}
        for index in draw.permutation(len(info['text'])).tolist():
            left[kind_of(info['text'][index])].append(index)
        chosen: list[int] = []
        order = draw.permutation(KINDS).tolist()
        while len(chosen) < self.phrases_per_image and any(left.values()):
            for kind in order:
                if left[kind] and len(chosen) < self.phrases_per_image:
                    chosen.append(left[kind].pop())
        return sorted(chosen)

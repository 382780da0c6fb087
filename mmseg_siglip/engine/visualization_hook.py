"""Pictures of predictions, also of samples that are no files."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from functools import cached_property, partialmethod
from pathlib import Path

import cv2
import numpy as np
from mmengine.runner import Runner
from mmengine.structures import PixelData
from mmseg.engine.hooks import SegVisualizationHook as BaseSegVisualizationHook
from mmseg.models import BaseSegmentor
from mmseg.structures import SegDataSample
from torch import Tensor

from mmseg_siglip.engine.runner import unwrapped
from mmseg_siglip.io.image import decode_image
from mmseg_siglip.io.image_names import ImageNames
from mmseg_siglip.registry import HOOKS


@HOOKS.register_module()
class SegVisualizationHook(BaseSegVisualizationHook):
    """MMSeg's hook on images as the datasets load them.

    MMSeg's own needs a file for each sample, and turns it by its EXIF orientation, which the
    labels do not follow.

    Refused, where MMSeg's goes on: batches that are lists of samples. Those of a training are not
    drawn.

    Attributes:
        other_classes: ``classes`` and ``palette`` of predictions in other classes than the data's;
            no labels are drawn beside them.
        image_names: What pictures are called, see `name_images`.
    """

    other_classes: dict | None = None
    image_names = cached_property(lambda self: ImageNames())

    def __init__(self, *args, **kwargs) -> None:
        with warnings.catch_warnings():
            warnings.filterwarnings('ignore', 'The draw is False')  # the default, and meant so
            super().__init__(*args, **kwargs)

    def before_run(self, runner: Runner) -> None:
        """Refuse, before it predicts, a model that the hook cannot draw.

        Raises:
            ValueError: The model gives nothing that can be drawn.
        """
        model = unwrapped(runner.model)
        if self.draw and not isinstance(model, BaseSegmentor):
            raise ValueError(
                'default_hooks.visualization.draw, --show and --show-dir: expected a model that '
                f'gives maps, found a {type(model).__name__}'
            )

    def before_val(self, runner: Runner) -> None:
        self.image_names = ImageNames(runner.val_dataloader.dataset)

    def before_test(self, runner: Runner) -> None:
        self.image_names = ImageNames(runner.test_dataloader.dataset)

    def draw_batch(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict,
        outputs: Sequence[SegDataSample],
        mode: str,
    ) -> None:
        """Draw every `interval`-th batch, as one of ``val`` or ``test``."""
        if not self.draw or not self.every_n_inner_iters(batch_idx, self.interval):
            return
        step = runner.iter  # may build a training loop, which sets the visualizer's classes
        if self.other_classes is not None:
            self._visualizer.dataset_meta = self.other_classes
        for pixels, sample in zip(data_batch['inputs'], outputs, strict=True):
            path = Path(sample.img_path)
            name = self.image_names(sample.img_path)
            picture = picture_of(path, pixels, sample.ori_shape)
            for suffix, part in by_phrase(sample):
                self._visualizer.add_datasample(
                    f'{mode}_{name}{suffix}',
                    picture,
                    data_sample=part,
                    draw_gt=self.other_classes is None,
                    show=self.show,
                    wait_time=self.wait_time,
                    step=step,
                )

    after_val_iter = partialmethod(draw_batch, mode='val')
    after_test_iter = partialmethod(draw_batch, mode='test')


def by_phrase(sample: SegDataSample) -> list[tuple[str, SegDataSample]]:
    """A sample whose masks are phrases', (P, H, W), as P samples of one; any other as it is.

    With the end of each picture's name, such as ``_0_the red star``.
    """
    if 'text' not in sample.metainfo:
        return [('', sample)]
    parts = []
    first = sample.metainfo.get('first_phrase', 0)
    for index, text in enumerate(sample.text):
        part = SegDataSample(metainfo=sample.metainfo)
        for name in ('gt_sem_seg', 'pred_sem_seg'):
            if name in sample:
                part.set_data({name: PixelData(data=sample.get(name).data[index : index + 1])})
        words = re.sub(r'[^\w ]', '', text)[:60]
        parts.append((f'_{first + index}_{words}', part))
    return parts


def picture_of(path: Path, pixels: Tensor | list[Tensor], size: tuple[int, int]) -> np.ndarray:
    """The image of a sample: from its file, else from the model's input, resized.

    Args:
        path: The sample's name, which may be no file.
        pixels: (3, H, W) uint8, channels blue, green, red; a list of views is given by its first.
        size: (H_o, W_o) of the picture.

    Returns:
        uint8 (H_o, W_o, 3), channels red, green, blue.
    """
    if path.is_file():
        image = decode_image(path.read_bytes(), str(path))
    else:
        first = pixels if isinstance(pixels, Tensor) else pixels[0]
        image = cv2.resize(first.permute(1, 2, 0).numpy(), size[::-1])
    return np.ascontiguousarray(image[..., ::-1])

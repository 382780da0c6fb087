"""What a phrase means in your own photograph.

from mmseg_siglip.api.refer import ReferringSegmenter

segmenter = ReferringSegmenter('configs/refer_sam/rsrefseg_b.py', 'iter_76000.pth')
found = segmenter('photo.jpg', 'the red cup left of the plate')
found.mask, found.score
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from mmengine.config import Config
from mmseg.structures import SegDataSample
from PIL import Image
from torch import Tensor

from mmseg_siglip.api.results import add_legend
from mmseg_siglip.api.segment import ImageLike, load_trained, read_image
from mmseg_siglip.models.segmentors import ReferringSegmentor

COLOUR = (255, 40, 200)
DIMMED = 0.4


@dataclass(frozen=True)
class Referred:
    """What one phrase means in one image.

    Attributes:
        mask: (H, W) bool.
        score: IoU with the truth as SAM predicts it.
        text: The phrase.
        image: (H, W, 3) uint8, RGB.
    """

    mask: np.ndarray
    score: float
    text: str
    image: np.ndarray

    def plot(self) -> Image.Image:
        """The image, dimmed and outlined where the mask is not, above the phrase."""
        mask = self.mask.astype(np.uint8)
        shown = np.where(self.mask[..., None], self.image, (DIMMED * self.image).astype(np.uint8))
        shown[cv2.dilate(mask, np.ones((3, 3), np.uint8)) > mask] = COLOUR
        return add_legend(Image.fromarray(shown), [(self.text, COLOUR)])


class ReferringSegmenter:
    """Masks of phrases.

    Args:
        config: A config of ``configs/refer_sam``, or a `ReferringSegmentor` that is built already.
        checkpoint: Weights written by training; the config's ``load_from`` if not given.
        device: By default the GPU, if there is one.

    Raises:
        ValueError: There are no weights, they do not fit, or the config is of another model.
    """

    def __init__(
        self,
        config: str | Path | Config | ReferringSegmentor,
        checkpoint: str | Path | None = None,
        *,
        device: str | torch.device | None = None,
    ) -> None:
        if isinstance(config, ReferringSegmentor):
            if checkpoint is not None:
                raise ValueError('ReferringSegmenter: a model that is built takes no checkpoint')
            self.model = config.eval() if device is None else config.to(device).eval()
        else:
            self.model = load_trained(ReferringSegmentor, config, checkpoint, device=device)

    def __call__(
        self, images: ImageLike | Sequence[ImageLike], text: str | Sequence[str]
    ) -> Referred | list[Referred] | list[list[Referred]]:
        """What the phrases mean; several phrases of an image cost one pass of the encoders.

        Args:
            images: One image or a list of them: a path (turned upright by its EXIF orientation),
                a PIL image, an RGB array (H, W, 3) uint8, or an RGB tensor (3, H, W).
            text: A phrase, or several to be looked for in every image.

        Returns:
            One result for one image and one phrase; a list for several phrases; a list of them
            for several images.

        Raises:
            ValueError: An image or a phrase cannot be used; the message names it.
        """
        one_image = isinstance(images, (str, Path, Image.Image, np.ndarray, Tensor))
        one_phrase = isinstance(text, str)
        phrases = check_phrases([text] if one_phrase else list(text))
        pixels = [read_image(image) for image in ([images] if one_image else images)]
        results = [self._segment(rgb, phrases) for rgb in pixels]
        results = [found[0] if one_phrase else found for found in results]
        return results[0] if one_image else results

    def _segment(self, rgb: np.ndarray, phrases: list[str]) -> list[Referred]:
        device = self.model.encoder.mean.device
        image = torch.from_numpy(rgb).to(device).permute(2, 0, 1).float() / 255
        sample = SegDataSample(metainfo=dict(text=phrases, ori_shape=rgb.shape[:2]))
        (sample,) = self.model.predict([image], [sample])
        masks = sample.pred_sem_seg.data.bool().cpu().numpy()
        return [
            Referred(mask, score, phrase, rgb)
            for mask, score, phrase in zip(masks, sample.scores, phrases, strict=True)
        ]


def check_phrases(phrases: Sequence[str]) -> list[str]:
    """Phrases that say something.

    Raises:
        ValueError: There are none, or one is empty.
    """
    for phrase in phrases:
        if not isinstance(phrase, str) or not phrase.strip():
            raise ValueError(f'expected phrases such as "the red cup", found {phrase!r}')
    if not phrases:
        raise ValueError('expected one or more phrases, found none')
    return list(phrases)

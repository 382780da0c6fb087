"""What a phrase means in your own photograph.

from mmseg_siglip.api import ReferringSegmenter

segmenter = ReferringSegmenter('configs/refer_sam/rsrefseg_b.py', 'iter_76000.pth')
found = segmenter('photo.jpg', 'the red cup left of the plate')
found.mask, found.score
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmseg.structures import SegDataSample
from torch import Tensor

from mmseg_siglip.api.load import load_trained
from mmseg_siglip.api.results import Referred
from mmseg_siglip.api.system import System
from mmseg_siglip.io.image import check_tensor
from mmseg_siglip.models.segmentors import ReferringSegmentor
from mmseg_siglip.text.distinct import check_phrases_distinct

Phrases = str | Sequence[str]


class ReferringSegmenter(System):
    """Masks of phrases: a `Referred` for one phrase, a list of them for a list.

    Several phrases of an image cost one pass of the encoders.

    Args:
        config: A config of ``configs/refer_sam``, or a `ReferringSegmentor` that is built already.
        checkpoint: Weights written by training; the config's ``load_from`` if not given.
        device: By default the GPU, if there is one.

    Raises:
        ValueError: There are no weights, they do not fit, or the config is of another model.
    """

    task, asks, kind = 'refer', 'phrases', ReferringSegmentor

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

    def check_prompt(self, prompt: Phrases | None) -> Phrases:
        """A phrase, or several to be looked for in every image."""
        text = super().check_prompt(prompt)
        phrases = check_phrases([text] if isinstance(text, str) else list(text))
        check_phrases_distinct(phrases, self.model.encoder.backbone)
        return text if isinstance(text, str) else phrases

    def torch(
        self, images: Tensor | Sequence[Tensor], text: Phrases
    ) -> list[tuple[Tensor, list[float]]]:
        """Masks (P, H, W) bool of the P phrases in each image, on the CPU, and their scores."""
        phrases = [text] if isinstance(text, str) else list(text)
        device, found = self.model.encoder.mean.device, []
        for image in images:
            rgb = check_tensor(image).to(device)
            rgb = rgb.float() / 255 if not rgb.is_floating_point() else rgb.float()
            sample = SegDataSample(metainfo=dict(text=phrases, ori_shape=tuple(rgb.shape[-2:])))
            (sample,) = self.model.predict([rgb], [sample])
            found.append((sample.pred_sem_seg.data.bool().cpu(), sample.scores))
        return found

    def _result(
        self, rgb: np.ndarray, output: tuple[Tensor, list[float]], prompt: Phrases
    ) -> Referred | list[Referred]:
        phrases = [prompt] if isinstance(prompt, str) else prompt
        results = [
            Referred(mask.numpy(), score, phrase, rgb)
            for mask, score, phrase in zip(*output, phrases, strict=True)
        ]
        return results[0] if isinstance(prompt, str) else results


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

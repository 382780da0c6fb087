"""What a phrase means in your own photograph.

from mmseg_siglip.api import ReferringSegmenter

segmenter = ReferringSegmenter('configs/refer_sam/rsrefseg_b.py', 'iter_76000.pth')
found = segmenter('photo.jpg', 'the red cup left of the plate')
found.mask, found.score
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmseg.structures import SegDataSample
from torch import Tensor

from mmseg_siglip.api.load import load_trained, read_config
from mmseg_siglip.api.segmentation import Referred
from mmseg_siglip.api.system import System
from mmseg_siglip.device import find_device, upload
from mmseg_siglip.io.image import check_tensor
from mmseg_siglip.later import Later
from mmseg_siglip.models.finite import doubts, fetch_sure
from mmseg_siglip.models.segmentors import ReferringSegmentor
from mmseg_siglip.models.segmentors.referring import scores_of
from mmseg_siglip.precision import compute_dtype
from mmseg_siglip.registry import MODELS, SCOPE
from mmseg_siglip.text.distinct import check_phrases_distinct

Phrases = str | Sequence[str]

ENCODED_AT_ONCE = 8  # images, of any number that are waited for together


class ReferringSegmenter(System):
    """Masks of phrases: a `Referred` for one phrase, a list of them for a list.

    Several phrases of an image cost one pass of the encoders.

    Args:
        config: A config of ``configs/refer_sam``, or a `ReferringSegmentor` that is built already.
        checkpoint: Weights written by training; the config's ``load_from`` if not given.
        device: By default the GPU, if there is one.

    Raises:
        ValueError: There are no weights, they do not fit, or the config is of another model.

    Examples:
        >>> from mmseg_siglip.api import ReferringSegmenter
        >>> from mmseg_siglip.datasets.shapes_world.scene import generate, scene_seed
        >>> image = generate(scene_seed('test', 0), size=(64, 96)).image  # or 'photo.jpg'
        >>> segmenter = ReferringSegmenter.from_pretrained(  # its prompter is to be trained
        ...     'tiny_siglip_shapes', 'tiny_sam_shapes', device='cpu'
        ... )
        >>> heart, crescent = segmenter(image, ['the white heart', 'the blue crescent'])
        >>> heart.mask.shape, crescent.text
        ((64, 96), 'the blue crescent')
    """

    task, asks, kind = 'refer', 'phrases', ReferringSegmentor
    gives = Referred

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
            config = read_config(config)
            self.model = load_trained(ReferringSegmentor, config, checkpoint, device=device)
            self.description = config.model.to_dict()

    @classmethod
    def from_pretrained(
        cls,
        siglip: str | Path,
        sam: str | Path | None = None,
        *,
        prompt_mode: str = 'conv',
        target_spatial_dim: int | tuple[int, int] | None = None,
        device: str | torch.device | None = None,
        precision: str = 'auto',
        **decode_head,
    ) -> ReferringSegmenter:
        """Build a system to be trained, on a published encoder and a published SAM.

        One line for one line of RSRefSeg's re-implementation with variable resolution:

            SigLipSamSegmentator(siglip_model_name=S, sam_model_name=M, target_spatial_dim=7)
            ReferringSegmenter.from_pretrained(siglip=S, sam=M, target_spatial_dim=7)

        Its prompter is new, of which a warning tells; ``model`` is what to train. Published
        RSRefSeg's weights come by `from_config`, once ``mmseg-siglip convert rsrefseg`` has
        converted them.

        Args:
            siglip: Name, file, folder or Hub id of an encoder of any size. Without `sam`: what
                `save_pretrained` wrote, a trained system.
            sam: The same of a SAM or SAM 2.
            prompt_mode: See `SAMPrompterDecodeHead`.
            target_spatial_dim: Of ``conv`` and ``pool``: rows and columns of prompts.
            device: By default the GPU, if there is one.
            precision: See `mmseg_siglip.precision`.
            decode_head: Further options of `SAMPrompterDecodeHead`.

        Raises:
            ValueError: There are no such weights, or an option does not suit.
        """
        if sam is None:
            saved = cls.saved(siglip, revision=decode_head.get('revision'))
            if saved is not None:
                return cls._of_saved(saved, device=device, precision=precision, **decode_head)
            raise ValueError(
                f'{cls.__name__}: expected from_config(config, checkpoint), which names a trained '
                f'model, from_pretrained(siglip, sam), or a folder of save_pretrained, found '
                f'from_pretrained({str(siglip)!r})'
            )
        device = find_device(device)
        compute_dtype(precision, device)
        if prompt_mode == 'conv':
            decode_head.setdefault('dense', 'global')
        described = dict(
            type='ReferringSegmentor',
            backbone=dict(pretrained=str(siglip)),
            sam=dict(checkpoint=str(sam), resize='squash'),
            decode_head=dict(
                prompt_mode=prompt_mode, target_spatial_dim=target_spatial_dim, **decode_head
            ),
            precision=precision,
        )
        with DefaultScope.overwrite_default_scope(SCOPE):
            model = MODELS.build(described)
        warnings.warn(
            f'{cls.__name__}: the prompter between {siglip} and {sam} is untrained: its masks mean '
            'nothing yet',
            stacklevel=2,
        )
        system = cls(model, device=device)
        system.description = described
        return system

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
        return self._begin(images, text)()

    def _begin(
        self, images: Tensor | Sequence[Tensor], text: Phrases
    ) -> Later[list[tuple[Tensor, list[float]]]]:
        phrases = [text] if isinstance(text, str) else list(text)
        samples: list[SegDataSample] = []
        iou: list[Tensor] = []
        with doubts(later=True) as held:
            for first in range(0, len(images), ENCODED_AT_ONCE):
                inputs = [self._prepare(one) for one in images[first : first + ENCODED_AT_ONCE]]
                sizes = [tuple(one.shape[-2:]) for one in inputs]
                part = [SegDataSample(metainfo=dict(text=phrases, ori_shape=s)) for s in sizes]
                iou += self.model.draw(inputs, part)
                samples += part
        masks = [sample.pred_sem_seg.data for sample in samples]

        def masks_and_scores(found: list[Tensor]) -> list[tuple[Tensor, list[float]]]:
            pairs = zip(found[: len(samples)], found[len(samples) :], strict=True)
            return [(masks.bool(), scores_of(iou)) for masks, iou in pairs]

        return fetch_sure([*masks, *iou], held).then(masks_and_scores)

    def _prepare(self, rgb: Tensor) -> Tensor:
        """An image as `ReferringSegmentor` takes it, on its device."""
        rgb = upload(check_tensor(rgb), self.model.encoder.mean.device)
        return rgb.float() if rgb.is_floating_point() else rgb.float() / 255

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

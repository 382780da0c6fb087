"""Scores of referring segmentation, with every rule that the literature leaves open spelled out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from mmengine.dist import is_main_process
from mmengine.logging import print_log
from PIL import Image
from torch import Tensor

from mmseg_siglip.evaluation.label_maps import fetched, refuse_nan_labels, truth_of
from mmseg_siglip.evaluation.saving_metric import SavingMetric
from mmseg_siglip.io.files import write_atomically, write_image
from mmseg_siglip.registry import METRICS

THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9)
IGNORED = 255
NO_TARGET = ('count', 'skip')


@METRICS.register_module()
class RefSegMetric(SavingMetric):
    """oIoU, mIoU and Pr@0.5 to Pr@0.9, percent, over phrases.

    ``oIoU`` is the sum of intersections over the sum of unions, which papers also call cIoU,
    overall or cumulative IoU. ``mIoU`` is the mean of each phrase's IoU. "gIoU" stands for the one
    in some papers and for the other in others, so nothing here has that name. ``Pr@X`` is the part
    of the phrases with a target whose IoU reaches X.

    Where nothing in the image fits a phrase, an empty prediction is right. ``N-acc`` is the part of
    such phrases that got one, ``T-acc`` the part of the other phrases that got something; both as
    in gRefCOCO (https://arxiv.org/abs/2306.00968), and reported if there is any such phrase.

    Args:
        no_target: What a phrase that fits nothing does in oIoU and mIoU. ``count``, as in gRefCOCO:
            its IoU is 1 for an empty prediction and 0 for any other, whose pixels add to the union
            of oIoU. ``skip``: nothing.
        strict: Whether an IoU must exceed X for Pr@X, as in RSRefSeg, or may equal it, as in LAVT
            and RMSIN.
        side: Both masks are first resized to this number of pixels squared, by nearest pixels: 480
            is the protocol of LAVT and RMSIN, which is kinder to small objects. By default they
            are compared at the image's original size.
        output_dir: Folder of masks to write, if any: ``<image>_<phrase>.png``, 0 and 255, with
            their phrases in ``<image>.json``, or, where each phrase is a sample, one beside each.
        format_only: Write masks and score nothing.

    Raises:
        ValueError: An option is unknown or out of range.
    """

    def __init__(
        self,
        *,
        no_target: str = 'count',
        strict: bool = False,
        side: int | None = None,
        output_dir: str | None = None,
        format_only: bool = False,
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        if no_target not in NO_TARGET:
            raise ValueError(
                f'RefSegMetric: expected no_target {" or ".join(NO_TARGET)}, found {no_target!r}'
            )
        if side is not None and side < 1:
            raise ValueError(f'RefSegMetric: expected a side of 1 or more pixels, found {side}')
        self.no_target, self.strict, self.side = no_target, strict, side
        self.format_only = format_only
        self.output_dir = None if output_dir is None else Path(output_dir)
        if self.output_dir is not None and is_main_process():
            self.output_dir.mkdir(parents=True, exist_ok=True)

    @property
    def protocol(self) -> str:
        """What the scores mean, in a sentence."""
        size = f'{self.side} x {self.side} pixels' if self.side else 'the original size'
        rule = dict(
            count='count as IoU 1 or 0 in mIoU and add to the union of oIoU',
            skip='are left out of mIoU and oIoU',
        )[self.no_target]
        sign = '>' if self.strict else '>='
        return f'masks at {size}; Pr@X asks for IoU {sign} X; phrases that fit nothing {rule}'

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Count pixels: for each image an int64 array (P, 4), see `count_pixels`.

        Raises:
            ValueError: Masks of another number or size than the truth, with other values, or a
                phrase all of whose pixels are ignored.
        """
        for sample in fetched(data_samples, 'pred_sem_seg', 'gt_sem_seg'):
            refuse_nan_labels(sample)
            name = sample.get('img_path', 'a sample')
            prediction = sample['pred_sem_seg']['data']
            if not self.format_only:
                truth = truth_of(sample, 'gt_sem_seg', 'LoadReferringMasks')
                self.results.append(count_pixels(prediction, truth, name=name, side=self.side))
            if self.output_dir is not None:
                self._save(prediction, sample, self.image_names(name))

    def compute_metrics(self, results: list[np.ndarray]) -> dict[str, float]:
        """The scores; none is ever NaN.

        Raises:
            ValueError: There is no phrase to score.
        """
        intersection, union, target, real = np.concatenate(results).T
        real, predicted = real > 0, union - target + intersection
        print_log(
            f'{len(target)} phrases of {len(results)} samples, {int((~real).sum())} of which fit '
            f'nothing; {self.protocol}.',
            'current',
        )
        counted = real if self.no_target == 'skip' else np.ones_like(real)
        if not counted.any():
            raise ValueError(
                "RefSegMetric: expected a phrase with a target for no_target='skip', found none"
            )
        iou = np.where(union > 0, intersection / np.maximum(union, 1), ~real)
        total = int(union[counted].sum())
        nothing_to_find = not real[counted].any()  # else resizing has lost it
        overall = int(intersection[counted].sum()) / total if total else float(nothing_to_find)
        scores = dict(oIoU=100 * overall, mIoU=share(iou[counted]))
        if real.any():
            for x in THRESHOLDS:
                scores[f'Pr@{x}'] = share(iou[real] > x if self.strict else iou[real] >= x)
        if not real.all():
            scores['N-acc'] = share(predicted[~real] == 0)
            if real.any():
                scores['T-acc'] = share(predicted[real] > 0)
        return scores

    def _save(self, masks: Tensor, sample: dict, stem: str) -> None:
        files, first = {}, sample.get('first_phrase')
        for index, (mask, text) in enumerate(zip(masks, sample['text'], strict=True), first or 0):
            name = f'{stem}_{index}.png'
            image = Image.fromarray(mask.cpu().numpy().astype(np.uint8) * 255)
            self.writers(write_image, image, self.output_dir / name)
            files[name] = text
        words = f'{stem}.json' if first is None else f'{stem}_{first}.json'
        text = json.dumps(files, indent=1, ensure_ascii=False)
        self.writers(write_atomically, text, self.output_dir / words)


def share(values: np.ndarray) -> float:
    """The mean in percent."""
    return float(100 * np.mean(values, dtype=np.float64))


def count_pixels(
    prediction: Tensor, truth: Tensor, *, name: str, side: int | None = None
) -> np.ndarray:
    """Intersection, union and target area of masks (P, H, W), and the target's before resizing.

    (P, 4) int64. Pixels whose truth is 255 count nowhere. A small target that resizing loses is
    still one to be found.

    Raises:
        ValueError: Another number or size, values other than 0 and 1, or nothing that counts.
    """
    if prediction.shape != truth.shape:
        raise ValueError(
            f'{name}: expected masks of the truth {tuple(truth.shape)} (phrases, height, width), '
            f'found {tuple(prediction.shape)}'
        )
    odd = set(torch.unique(prediction).tolist()) - {0, 1}
    if odd:
        raise ValueError(f'{name}: expected a prediction of 0 and 1, found {odd.pop()}')
    odd = set(torch.unique(truth).tolist()) - {0, 1, IGNORED}
    if odd:
        raise ValueError(f'{name}: expected a truth of 0, 1 and {IGNORED}, found {odd.pop()}')
    real = (truth == 1).flatten(1).sum(1)
    if side is not None:
        prediction, truth = (_resized(masks, side) for masks in (prediction, truth))
    truth = truth.to(prediction.device)
    counts = truth != IGNORED
    if not counts.flatten(1).any(1).all():
        raise ValueError(f'{name}: expected pixels that count for every phrase, found none')
    predicted, wanted = (prediction == 1) & counts, truth == 1
    areas = [predicted & wanted, predicted | wanted, wanted]
    counted = [area.flatten(1).sum(1).cpu() for area in areas]
    return torch.stack([*counted, real.cpu()], dim=1).numpy()


def _resized(masks: Tensor, side: int) -> Tensor:
    planes = masks.to(torch.uint8).cpu().numpy()
    resized = [cv2.resize(p, (side, side), interpolation=cv2.INTER_NEAREST_EXACT) for p in planes]
    return torch.from_numpy(np.stack(resized))

"""Regions by a panoptic model that was trained on labelled masks.

EoMT, https://arxiv.org/abs/2503.19108; Mask2Former, https://arxiv.org/abs/2112.01527.
Shapes: an image of (H, W) pixels, M masks (h, w) over the model's input.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn.functional import interpolate
from transformers import (
    EomtDinov3ForUniversalSegmentation,
    EomtForUniversalSegmentation,
    Mask2FormerForUniversalSegmentation,
    PretrainedConfig,
)

from mmseg_siglip.models.finite import require_finite
from mmseg_siglip.models.guides import Frozen
from mmseg_siglip.models.guides.vit import normalised
from mmseg_siglip.models.regions.proposer import RegionProposer
from mmseg_siglip.models.sam.geometry import content_size, fit
from mmseg_siglip.precision import PRECISIONS, autocast
from mmseg_siglip.registry import MODELS
from mmseg_siglip.weights.transformers_model import (
    build_model,
    config_of,
    load_model,
    load_model_config,
)

MODEL_TYPES = dict(
    eomt=EomtForUniversalSegmentation,
    eomt_dinov3=EomtDinov3ForUniversalSegmentation,
    mask2former=Mask2FormerForUniversalSegmentation,
)
SHORT_SIDE, LONG_SIDE, MULTIPLE = 800, 1333, 32  # Mask2Former's input, in pixels


@MODELS.register_module()
class PanopticRegions(RegionProposer):
    """The segments of a panoptic model; their classes are not looked at.

    It is supervised: it learnt from the masks of COCO or ADE20K, which are close to what benchmarks
    ask for. A table must say so.

    Masks whose class is "none" or less likely than `threshold` go. A pixel belongs to the mask of
    the highest probability times class probability, if it lies inside that mask; a mask of which
    others take too much goes, too. Two segments of one kind of ground stay two.

    Args:
        pretrained: Folder or Hub id of a transformers checkpoint: EoMT, with DINOv2 or DINOv3
            (``tue-mps/coco_panoptic_eomt_large_640``), or Mask2Former
            (``facebook/mask2former-swin-large-coco-panoptic``). None builds random weights from
            `config`.
        config: transformers configuration as a mapping with its ``model_type``.
        threshold: Least probability of a mask's class.
        inside: Least probability of a mask's pixels.
        least_left: Least part of a mask that others leave to it.
        precision: Number format of the model.
        revision: Commit of a Hub id.

    Raises:
        ValueError: The checkpoint is of another kind or lacks weights, a number is out of range or
            the precision unknown.
    """

    supervised = True

    def __init__(
        self,
        pretrained: str | None = None,
        *,
        config: Mapping | None = None,
        threshold: float = 0.8,
        inside: float = 0.5,
        least_left: float = 0.8,
        precision: str = 'fp32',
        revision: str | None = None,
    ) -> None:
        super().__init__()
        if pretrained is None and config is None:
            raise ValueError('PanopticRegions: expected pretrained or config, found neither')
        parts = dict(threshold=threshold, inside=inside, least_left=least_left)
        for name, value in parts.items():
            if not 0 <= value <= 1:
                raise ValueError(f'PanopticRegions: expected {name} in [0, 1], found {value}')
        if precision not in PRECISIONS:
            raise ValueError(
                f'precision: expected one of {", ".join(PRECISIONS)}, found {precision!r}'
            )
        if config is not None:
            self._known(config.get('model_type'))
            settings = config_of(config)
        else:
            settings = load_model_config(pretrained, revision=revision)
            self._known(settings.model_type)
        kind = MODEL_TYPES[settings.model_type]
        if pretrained is None:
            model = build_model(settings, kind=kind)
        else:
            model = load_model(pretrained, settings, kind=kind, revision=revision)
        self.model = Frozen(model)
        self.threshold, self.inside, self.least_left = threshold, inside, least_left
        self.precision = precision

    @staticmethod
    def _known(kind: str | None) -> str:
        if kind not in MODEL_TYPES:
            raise ValueError(
                f'PanopticRegions: expected model_type {", ".join(MODEL_TYPES)}, found {kind!r}'
            )
        return kind

    @torch.no_grad()
    def forward(self, pixels: Tensor) -> Tensor:
        """See `RegionProposer`: (H, W) int64."""
        size = tuple(pixels.shape[-2:])
        shape = input_size(self.model.model.config, size)
        x = fit(normalised(pixels), shape, 'pad')
        with autocast(self.precision, pixels.device):
            found = self.model(pixel_values=x[None])
        kind = self.model.model.config.model_type
        require_finite(kind, found.class_queries_logits, found.masks_queries_logits)
        chances = found.class_queries_logits[0].float().softmax(-1)
        score, label = chances.max(-1)
        kept = (label < chances.shape[-1] - 1) & (score > self.threshold)
        masks = found.masks_queries_logits[0, kept].float()
        if not len(masks):
            return pixels.new_zeros(size, dtype=torch.long)
        masks = interpolate(masks[None], size=shape, mode='bilinear')
        rows, columns = content_size(size, shape, 'pad')
        masks = interpolate(masks[..., :rows, :columns], size=size, mode='bilinear')[0].sigmoid()
        return segments(masks, score[kept], self.inside, self.least_left)


def input_size(config: PretrainedConfig, size: tuple[int, int]) -> tuple[int, int]:
    """(h, w) of the model's input for an image of `size`: a square for EoMT."""
    if config.model_type != 'mask2former':
        side = config.image_size
        return (side, side) if isinstance(side, int) else tuple(side)
    scale = min(SHORT_SIDE / min(size), LONG_SIDE / max(size))
    return tuple(-(-round(side * scale) // MULTIPLE) * MULTIPLE for side in size)


def segments(masks: Tensor, scores: Tensor, inside: float, least_left: float) -> Tensor:
    """Probabilities of masks (M, H, W) and of their classes (M,), to a label map (H, W) int64 with
    labels from 1, 0 is none."""
    owner = (scores[:, None, None] * masks).argmax(0)
    solid = masks >= inside
    own = torch.bincount(owner.flatten(), minlength=len(masks))
    whole = solid.flatten(1).sum(1)
    top = solid.gather(0, owner[None])[0]
    some = torch.bincount(owner[top], minlength=len(masks)) > 0
    valid = some & (own / whole.clamp(min=1) > least_left)
    number = torch.where(valid, valid.cumsum(0), 0)
    return torch.where(top, number[owner], 0)

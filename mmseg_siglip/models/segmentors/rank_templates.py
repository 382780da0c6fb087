"""Ranking templates by images without labels: FLOSS, https://arxiv.org/abs/2504.10487.

Shapes: an image is (3, H, W), its output (H_o, W_o); T templates, Q query words, n_y x n_x windows
with grids of cells (h, w).
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from mmseg.structures import SegDataSample
from torch import Tensor
from torch.nn.functional import normalize

from mmseg_siglip.models.dense.guided import spanned_pixels
from mmseg_siglip.models.labelling import merge_words
from mmseg_siglip.models.segmentors.sclip import SCLIPSegmentor
from mmseg_siglip.models.windows.batch import window_batch
from mmseg_siglip.models.windows.grid import Windows
from mmseg_siglip.models.windows.stream import by_image
from mmseg_siglip.text.template_ranking import TemplateStatistics


@torch.no_grad()
def add_image(
    statistics: TemplateStatistics, model: SCLIPSegmentor, image: Tensor, sample: SegDataSample
) -> None:
    """What each template alone makes of an image, pixel by pixel of its output.

    A class has the highest of its words' probabilities; they need not sum to 1. Score steps,
    postprocessors and thresholds are left out.

    Args:
        statistics: Are added to.
        model: Gives features, words and templates.
        image: Normalised.
        sample: Its ``ori_shape`` is the output's size; without it, the image's own.

    Raises:
        ValueError: The model's dense method gives no features.
    """
    if model.method.gives == 'cosines':
        raise ValueError(f'{model.attention!r} gives scores: templates are ranked by features')
    size = tuple(sample.metainfo.get('ori_shape', image.shape[-2:])[:2])
    features, windows = features_of_windows(model, image, sample)
    owner = model.vocabulary.query_to_class
    for template in range(len(model.templates)):
        text = model.bank[:, template]
        cells = torch.einsum('yxdhw,qd->yxqhw', features, text)
        rows = model._stitch(cells, windows, size).rows
        for chunk in model.labeller.chunks(size):
            probabilities = (model.logit_scale * rows(*chunk)).softmax(0)
            statistics.add(template, merge_words(probabilities, owner))


def features_of_windows(
    model: SCLIPSegmentor, image: Tensor, sample: SegDataSample
) -> tuple[Tensor, Windows]:
    """(n_y, n_x, D, h, w), of unit length where the dense method's are to be, and where they
    lie."""
    size, whole = tuple(image.shape[-2:]), dict(mode='whole')
    windows = Windows.of(size, model.test_cfg)
    regions = model._regions_of([image], [sample])
    batch = window_batch(model.test_cfg, model.backbone)

    def each() -> Iterator[Tensor]:
        for crops, known in model._parts([image], [windows], regions, batch=batch):
            features = model.encode(crops, known)
            if model.upsampler is not None:
                seen = model.backbone.trunk(image[None] if model.method.whole else crops)
                features = model.upsampler(features, spanned_pixels(seen))
            yield normalize(features, dim=1) if model.method.normalise else features

    own = Windows.of(size, whole) if model.method.whole else windows
    (found,) = by_image(each(), [own])
    return found, own

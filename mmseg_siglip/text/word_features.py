"""Words in several prompts as features, with gradients where their encoder trains.

Shapes: W words, T rows of the result, P templates, D joint channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import normalize
from torch.utils.checkpoint import checkpoint

from mmseg_siglip.kept import constant
from mmseg_siglip.precision import autocast
from mmseg_siglip.text.templates import SLOT
from mmseg_siglip.text.text_bank import text_bank
from mmseg_siglip.text.vocabulary import Vocabulary

if TYPE_CHECKING:
    from mmseg_siglip.models.backbones.base import VisionLanguageBackbone

SYNONYMS = ('first', 'mean', 'max')
BATCH = 64
"""Prompts in one pass of the text tower."""
RECOMPUTED = 16
"""The same where the backward pass computes it again, and holds all of its blocks meanwhile."""


def word_features(
    backbone: VisionLanguageBackbone,
    vocabulary: Vocabulary,
    templates: Sequence[str],
    *,
    synonyms: str = 'first',
    frozen: bool = True,
    precision: str = 'fp32',
) -> Tensor:
    """Each prompt's embedding, unit length, the templates kept apart.

    Args:
        backbone: Any encoder with `encode_text`.
        vocabulary: The classes.
        templates: P sentences with one ``{}`` each.
        synonyms: ``first``: a row for each class, its first word; ``mean``: a row for each class,
            the mean of its words' unit vectors, made unit length; ``max``: a row for each word.
        frozen: Take and keep them in the text bank's cache, without gradients.
        precision: Number format of a frozen encoder.

    Returns:
        (T, P, D) float32 with T classes, or words under ``max``.
    """
    words = vocabulary.queries
    if synonyms == 'first':
        words = [words[0] for words in vocabulary.classes]
    if frozen:
        banks = [text_bank(backbone, words, [t], precision=precision) for t in templates]
        features = torch.stack(banks, dim=1)
    else:
        prompts = [template.replace(SLOT, word) for word in words for template in templates]
        features = _encode(backbone, prompts, precision).unflatten(0, (len(words), -1))
    if synonyms != 'mean':
        return features
    owner = constant(tuple(vocabulary.query_to_class), dtype=torch.int64, device=features.device)
    total = features.new_zeros(len(vocabulary), *features.shape[1:])
    return normalize(total.index_add(0, owner, features), dim=-1)


def _encode(backbone: VisionLanguageBackbone, prompts: list[str], precision: str) -> Tensor:
    """(N, D); under gradients in the caller's number format, else in `precision`."""
    learning = torch.is_grad_enabled()
    device = next(iter(backbone.text_parameters().values())).device
    recompute = learning and backbone.with_cp
    size = RECOMPUTED if recompute else BATCH
    parts = []
    for start in range(0, len(prompts), size):
        batch = prompts[start : start + size]
        if recompute:
            vectors = checkpoint(backbone.encode_text, batch, use_reentrant=False)
        elif learning:
            vectors = backbone.encode_text(batch)
        else:
            with autocast(precision, device):
                vectors = backbone.encode_text(batch)
        parts.append(normalize(vectors.float(), dim=-1))
    return torch.cat(parts)

"""Experts for classes: FLOSS, https://arxiv.org/abs/2504.10487.

Shapes: n windows, Q query words, T templates, D joint channels, grid (h, w).
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import normalize

from mmseg_siglip.models.backbones.trunk import Trunk
from mmseg_siglip.models.labelling import owners
from mmseg_siglip.models.scores.step import ScoreStep
from mmseg_siglip.precision import autocast
from mmseg_siglip.registry import MODELS
from mmseg_siglip.text.template_ranking import Ranking, expert_text, experts_of, read_ranking

TOP_N = 4


@MODELS.register_module()
class TemplateExperts(ScoreStep):
    """Where the expert of a class finds it, the expert decides.

    An expert compares features with all words in the templates that are best for its class, and
    finds the class where one of its words is the nearest. Of several that find their own, the one
    of the highest probability decides; where none does, scores stay. A class without a ranking has
    no expert. What is published takes these decisions at the pixels of windows, here they are
    taken at their cells.

    Args:
        ranking: Indices of templates by the names of classes, or a JSON file of them, as
            ``mmseg-siglip rank-templates`` writes it. They count in the segmentor's templates.
        top_n: How many of them an expert uses.
        logit_scale: Factor on cosines; that of the segmentor if None.
        parity: Give probabilities, as the published code does, instead of cosines. What follows
            scales them once more, so that they are none any longer.

    Raises:
        ValueError: `top_n` is below 1, or there is no such ranking.
    """

    sees_windows = False

    def __init__(
        self,
        ranking: str | Path | Ranking,
        *,
        top_n: int = TOP_N,
        logit_scale: float | None = None,
        parity: bool = False,
    ) -> None:
        super().__init__()
        if top_n < 1:
            raise ValueError(f'TemplateExperts: expected top_n of at least 1, found {top_n}')
        self.ranking, self.top_n = read_ranking(ranking), top_n
        self.logit_scale, self.parity = logit_scale, parity

    def forward(self, cosines: Tensor, features: Tensor, trunk: Trunk) -> Tensor:
        known = trunk.surroundings
        if known.bank is None or known.vocabulary is None:
            raise ValueError('TemplateExperts: expected words, which a segmentor has')
        bank, vocabulary = known.bank(), known.vocabulary
        names = [  # the background of an older ranking has its first word's
            name if name in self.ranking else words[0]
            for name, words in zip(vocabulary.names, vocabulary.classes, strict=True)
        ]
        experts = experts_of(self.ranking, names, bank.shape[1], self.top_n)
        scale = trunk.logit_scale if self.logit_scale is None else self.logit_scale
        owner = owners(trunk.query_to_class, cosines.device)
        unit = normalize(features.float(), dim=1)

        def looked() -> Iterable[tuple[int, Tensor, Tensor]]:
            for index, templates in experts.items():
                found = torch.einsum('bdhw,qd->bqhw', unit, expert_text(bank, templates))
                probabilities = (scale * found).softmax(1)
                yield index, probabilities, probabilities if self.parity else found

        with autocast('fp32', cosines.device):
            default = (scale * cosines).softmax(1) if self.parity else cosines
            return fuse_experts(default, looked(), owner)


def fuse_experts(
    default: Tensor, experts: Iterable[tuple[int, Tensor, Tensor]], owner: Tensor
) -> Tensor:
    """What the experts say where they find their own class, and else `default`.

    Args:
        default: (n, Q, h, w).
        experts: Of each its class, its probabilities (n, Q, h, w), and what it says, likewise. One
            is asked for at a time; of several that are as sure, the first decides.
        owner: (Q,), class of each word.
    """
    fused = default
    surest = default.new_zeros(default[:, :1].shape)
    for index, probabilities, says in experts:
        sure, word = probabilities.max(1, keepdim=True)
        better = (owner[word] == index) & (sure > surest)
        surest = torch.where(better, sure, surest)
        fused = torch.where(better, says, fused)
    return fused

"""Which templates suit a class: FLOSS, https://arxiv.org/abs/2504.10487.

Shapes: T templates, C classes, Q query words, D joint channels.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import normalize

from mmseg_siglip.kept import constant

EPS = 1e-10
Ranking = Mapping[str, Sequence[int]]
"""Indices of templates by the name of a class, the best first."""


def entropy_of(probabilities: Tensor) -> Tensor:
    """Natural entropy over the first axis: (C, ...) to (...)."""
    return -(probabilities * (probabilities + EPS).log()).sum(0)


class TemplateStatistics:
    """Sums over pixels, image after image: how unsure each template is of what it calls a class.

    Args:
        templates: T.
        classes: C.
    """

    def __init__(self, templates: int, classes: int) -> None:
        self.entropy = torch.zeros(templates, classes, dtype=torch.float64)
        self.pixels = torch.zeros(templates, classes, dtype=torch.int64)

    def add(self, template: int, probabilities: Tensor) -> None:
        """Pixels of any number by what one template makes of them, (C, ...)."""
        labels = probabilities.argmax(0).flatten()
        entropy, classes = entropy_of(probabilities).flatten().double(), len(probabilities)
        self.entropy[template] += torch.bincount(labels, entropy, minlength=classes).cpu()
        self.pixels[template] += torch.bincount(labels, minlength=classes).cpu()

    def best(self) -> list[list[int]]:
        """Of each class the templates that found it anywhere, that of the lowest mean entropy
        first; of several as low, the first."""
        mean = torch.where(self.pixels > 0, self.entropy / self.pixels, torch.inf)
        order = mean.argsort(dim=0, stable=True)
        found = (self.pixels > 0).sum(0).tolist()
        return [order[:count, index].tolist() for index, count in enumerate(found)]


def read_ranking(source: str | Path | Ranking) -> Ranking:
    """A ranking, or that of a JSON file.

    Raises:
        ValueError: It is none.
    """
    if isinstance(source, Mapping):
        ranking, place = source, 'ranking'
    else:
        place = str(source)
        try:
            ranking = json.loads(Path(source).read_text(encoding='utf-8-sig'))
        except (ValueError, RecursionError) as error:
            raise ValueError(f'{place}: expected JSON, found {error}') from None
    if not isinstance(ranking, Mapping) or not all(map(is_order, ranking.values())):
        raise ValueError(
            f'{place}: expected lists of different template indices by the names of classes'
        )
    return ranking


def is_order(indices: object) -> bool:
    return (
        isinstance(indices, Sequence)
        and all(type(index) is int and index >= 0 for index in indices)
        and len(set(indices)) == len(indices)
    )


def experts_of(
    ranking: Ranking, names: Sequence[str], templates: int, top_n: int
) -> dict[int, list[int]]:
    """The best templates of each class by its index; classes that are not ranked are left out.

    Raises:
        ValueError: No class is ranked, or there are no such templates.
    """
    found = {i: list(ranking[name])[:top_n] for i, name in enumerate(names) if ranking.get(name)}
    if not found:
        raise ValueError(
            f'expected a ranking of templates for {", ".join(names[:5])}, '
            f'found one for {", ".join(list(ranking)[:5])}'
        )
    highest = max(max(indices) for indices in found.values())
    if highest >= templates:
        raise ValueError(
            f'the ranking names template {highest}, expected 0 to {templates - 1}: it was made '
            'with other templates'
        )
    return found


def expert_text(bank: Tensor, indices: Sequence[int]) -> Tensor:
    """All words in some templates of a bank (Q, T, D), as one embedding each: (Q, D), unit
    length."""
    chosen = constant(tuple(indices), dtype=torch.int64, device=bank.device)
    return normalize(bank[:, chosen].mean(1), dim=-1)

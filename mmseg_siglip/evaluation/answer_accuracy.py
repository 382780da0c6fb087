"""Answers to questions, right or wrong, by kind of question."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from mmengine.evaluator import BaseMetric

from mmseg_siglip.registry import METRICS


@METRICS.register_module()
class AnswerAccuracy(BaseMetric):
    """Part of the answers that are the true one, in percent: each kind's, and their mean.

    Case and a final full stop do not matter.
    """

    default_prefix = 'answers'

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Samples carry ``kind``, ``answer`` and ``pred_answer``."""
        for sample in data_samples:
            right = plain(sample['pred_answer']) == plain(sample['answer'])
            self.results.append((sample['kind'], right))

    def compute_metrics(self, results: list[tuple[str, bool]]) -> dict[str, float]:
        by_kind: dict[str, list[bool]] = defaultdict(list)
        for kind, right in results:
            by_kind[kind].append(right)
        scores = {kind: 100 * sum(found) / len(found) for kind, found in sorted(by_kind.items())}
        return dict(scores, mean=sum(scores.values()) / len(scores))


def plain(text: str) -> str:
    return text.strip().removesuffix('.').lower()

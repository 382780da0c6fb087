"""Answers to questions, right or wrong, by kind of question."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from mmengine.evaluator import BaseMetric

from mmseg_siglip.registry import METRICS

MEAN = 'mean'


@METRICS.register_module()
class AnswerAccuracy(BaseMetric):
    """Part of the answers that are the true one, in percent: each kind's, and their mean.

    Case, blanks around the answer and a final full stop do not matter. Samples without a kind, or
    with None for it, are of the kind ``other``.
    """

    default_prefix = 'answers'

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Samples carry ``answer`` and ``pred_answer``, and maybe ``kind``.

        Raises:
            ValueError: The true answer is no text or blank, or the kind is none or called as the
                mean is.
        """
        for sample in data_samples:
            name = sample.get('img_path', sample.get('name', 'a sample'))
            truth, kind = sample.get('answer'), sample.get('kind')
            kind = 'other' if kind is None else kind
            if not isinstance(truth, str) or not plain(truth):
                raise ValueError(
                    f'{name}: expected a true answer, found {sample.get("answer")!r}, which no '
                    'answer at all would equal'
                )
            if not isinstance(kind, str) or kind == MEAN:
                raise ValueError(
                    f'{name}: expected as kind a text, and another than {MEAN!r}, as the mean of '
                    f'all is called, found {kind!r}'
                )
            self.results.append((kind, plain(sample['pred_answer']) == plain(truth)))

    def compute_metrics(self, results: list[tuple[str, bool]]) -> dict[str, float]:
        by_kind: dict[str, list[bool]] = defaultdict(list)
        for kind, right in results:
            by_kind[kind].append(right)
        scores = {kind: 100 * sum(found) / len(found) for kind, found in sorted(by_kind.items())}
        return {**scores, MEAN: sum(scores.values()) / len(scores)}


def plain(text: str) -> str:
    return text.strip().removesuffix('.').rstrip().lower()

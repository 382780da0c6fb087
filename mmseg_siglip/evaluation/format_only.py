"""Metrics that may save predictions alone."""

from __future__ import annotations

from mmengine.dist import barrier
from mmengine.evaluator import BaseMetric


class MayScoreNothing(BaseMetric):
    """What metrics with ``output_dir`` have in common.

    Attributes:
        format_only: Save predictions and score nothing.
    """

    format_only = False

    def evaluate(self, size: int) -> dict[str, float]:
        """MMEngine's, which would warn that there are no results."""
        if not self.format_only:
            return super().evaluate(size)
        self.results.clear()
        barrier()  # the others may still predict
        return {}

"""Metrics that may save predictions, with scores or alone."""

from __future__ import annotations

from functools import cached_property

from mmengine.dist import barrier
from mmengine.evaluator import BaseMetric

from mmseg_siglip.io.image_names import ImageNames
from mmseg_siglip.io.writers import Writers


class SavingMetric(BaseMetric):
    """What metrics with ``output_dir`` have in common.

    Attributes:
        format_only: Save predictions and score nothing.
        writers: Called to write a file, while the next images are predicted; all are there, or an
            error is raised, when `evaluate` begins.
        image_names: What files are called, see `name_images`; a Runner's know the data set.
    """

    format_only = False
    writers = cached_property(lambda self: Writers())
    image_names = cached_property(lambda self: ImageNames())

    def evaluate(self, size: int) -> dict[str, float]:
        """MMEngine's, once all is written; it would warn that there are no results where nothing
        is scored."""
        self.writers.finish()
        if not self.format_only:
            return super().evaluate(size)
        self.results.clear()
        barrier()  # the others may still predict
        return {}

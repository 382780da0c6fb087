"""COCO-Stuff, converted or as downloaded."""

from __future__ import annotations

from collections.abc import Sequence

from mmseg import datasets as mmseg

from mmseg_siglip.datasets.two_layouts import TwoLayouts
from mmseg_siglip.registry import DATASETS

THING_GAPS = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)
RAW_TO_CONTIGUOUS = {
    raw: index
    for index, raw in enumerate(
        [raw for raw in range(90) if raw + 1 not in THING_GAPS] + list(range(91, 182))
    )
}
"""COCO-Stuff: value in the ``stuffthingmaps`` PNGs (category id - 1) to class index."""
CONTIGUOUS_TO_RAW = {index: raw for raw, index in RAW_TO_CONTIGUOUS.items()}
"""The inverse, to export predictions under COCO's numbers."""


@DATASETS.register_module()
class COCOStuffDataset(TwoLayouts, mmseg.COCOStuffDataset):
    """COCO-Stuff 164k (or 10k), 171 classes.

    Args:
        labels: ``contiguous``, files as converted by MMSeg's or CAT-Seg's script, values 0 to 170;
            ``raw``, the downloaded ``stuffthingmaps``, mapped while loading.
        kwargs: See `TwoLayouts` and MMSeg.

    Raises:
        ValueError: See `TwoLayouts`; `labels` is neither.
    """

    def __init__(self, *, labels: str = 'contiguous', **kwargs) -> None:
        if labels not in ('contiguous', 'raw'):
            raise ValueError(
                f'COCOStuffDataset: expected labels contiguous or raw, found {labels!r}'
            )
        self.labels = labels
        if labels == 'raw':
            kwargs = dict(seg_map_suffix='.png') | kwargs
        super().__init__(**kwargs)

    def get_label_map(self, new_classes: Sequence[str] | None = None) -> dict[int, int]:
        chosen = super().get_label_map(new_classes)
        if self.labels == 'contiguous':
            return chosen
        return {raw: chosen[index] for raw, index in RAW_TO_CONTIGUOUS.items()}

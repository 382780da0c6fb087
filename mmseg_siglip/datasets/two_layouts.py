"""Benchmarks whose labels lie about in two forms: MMSegmentation's, and Detectron2's.

CAT-Seg (https://github.com/cvlab-kaist/CAT-Seg, ``datasets/prepare_*.py``), like MaskFormer before
it, writes ``annotations_detectron2``: class indices from 0, 255 where nothing counts. Such files
look like the original ones, in which the classes begin at 1; to read one as the other is off by
one. The name of their folder shows it, and where it was changed their values do.
"""

from __future__ import annotations

from collections.abc import Sequence

from mmseg_siglip.datasets.paired_files import PairedFiles

LAYOUTS = ('mmsegmentation', 'detectron2')
PREPARED = 'annotations_detectron2'


class TwoLayouts(PairedFiles):
    """For a dataset of MMSeg's: a choice between two forms of its labels, see `PairedFiles`, too.

    Args:
        layout: ``mmsegmentation`` or ``detectron2``; see above. If not given it is the first, and
            files whose values speak for the other are refused.

    Raises:
        ValueError: The layout is unknown, or the folder's name or the values of its files say that
            it is the other.
    """

    def __init__(
        self, *, layout: str | None = None, data_prefix: dict | None = None, **kwargs
    ) -> None:
        name, prefix = type(self).__name__, dict(data_prefix or {})
        if layout not in (None, *LAYOUTS):
            raise ValueError(f'{name}: expected layout {" or ".join(LAYOUTS)}, found {layout!r}')
        self.layout = layout
        folder = prefix.get('seg_map_path') or ''
        if layout != 'detectron2' and PREPARED in folder:
            raise ValueError(
                f"{name}: the labels in {folder} begin at 0 already; set layout='detectron2'"
            )
        if layout == 'detectron2':
            kwargs = dict(seg_map_suffix='.png') | kwargs | dict(reduce_zero_label=False)
        super().__init__(data_prefix=prefix, **kwargs)

    @property
    def first_class(self) -> int | None:
        return 0 if self.layout == 'detectron2' else super().first_class

    def doubt(self, sentence: str) -> None:
        if self.layout is None:
            raise ValueError(
                f"{sentence}; set layout='detectron2' if these are prepared, "
                "layout='mmsegmentation' if they are not"
            )
        super().doubt(f'{sentence}; they are read with layout={self.layout!r}')

    def get_label_map(self, new_classes: Sequence[str] | None = None) -> dict[int, int] | None:
        """The classes themselves, so that any other value in a file is refused."""
        own = tuple(self.METAINFO['classes'])
        if new_classes is not None and tuple(new_classes) != own:
            return super().get_label_map(new_classes)
        return {index: index for index in range(len(own))}

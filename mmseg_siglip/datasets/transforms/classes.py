"""Training on some of a data set's classes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from mmcv.transforms import BaseTransform

from mmseg_siglip.registry import TRANSFORMS
from mmseg_siglip.text.vocabulary import Vocabulary


@TRANSFORMS.register_module()
class SelectClasses(BaseTransform):
    """Number the classes of one vocabulary as another does; what that one lacks is ignored.

    Changes ``gt_seg_map``.

    Args:
        source: The data set's classes (see `Vocabulary`).
        target: The model's; each of its names is one of the data set's.
        ignore_index: Label of pixels that count nowhere.

    Attributes:
        names: The classes of `target`.

    Raises:
        ValueError: `target` holds a name that `source` does not, or ``ignore_index`` is a class.
    """

    def __init__(
        self,
        *,
        source: str | Path | Sequence[str],
        target: str | Path | Sequence[str],
        ignore_index: int = 255,
    ) -> None:
        source, target = Vocabulary.load(source).names, Vocabulary.load(target).names
        unknown = [name for name in target if name not in source]
        if unknown:
            raise ValueError(
                f'SelectClasses: {unknown[0]!r} is none of the {len(source)} classes of the source'
            )
        if 0 <= ignore_index < max(len(source), len(target)):
            raise ValueError(
                f'SelectClasses: ignore_index={ignore_index} is one of the classes; set it to '
                '65535 here, in LoadAnnotations and in the metric'
            )
        self.ignore_index, self.names = ignore_index, target
        self.table = np.array(
            [target.index(name) if name in target else ignore_index for name in source], np.int32
        )

    def transform(self, results: dict) -> dict:
        labels = results['gt_seg_map']
        counted = labels != self.ignore_index
        if (labels[counted] >= len(self.table)).any():
            raise ValueError(
                f'SelectClasses: found label {int(labels[counted].max())} in '
                f'{results.get("seg_map_path", "a mask")}, the source has {len(self.table)} classes'
            )
        chosen = self.table[np.where(counted, labels, 0)]
        results['gt_seg_map'] = np.where(counted, chosen, self.ignore_index).astype(np.int32)
        return results

    def __repr__(self) -> str:
        kept = int((self.table != self.ignore_index).sum())
        return f'{type(self).__name__}({kept} of {len(self.table)} classes)'

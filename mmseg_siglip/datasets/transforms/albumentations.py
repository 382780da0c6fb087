"""MMSegmentation's way to albumentations, whose fill is class 0 and whose labels have 8 bits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from mmseg.datasets import transforms as mmseg

from mmseg_siglip.datasets.transforms.filling import USUAL, check_moved
from mmseg_siglip.registry import TRANSFORMS

TARGETS = {'img': 'image', 'gt_seg_map': 'mask'}


@TRANSFORMS.register_module()
class Albu(mmseg.Albu):
    """MMSeg's, for labels of any number and without a class in what is uncovered.

    albumentations fills masks with 0 by default, which is a class, and has OpenCV turn them, which
    takes no labels of 32 bits. It is given the places of an image's labels among its own, from 1,
    in 8 bits or 16; 0 and what else is no place is ``ignore_index`` afterwards.

    Args:
        transforms: Those of albumentations, each a dict with its ``type``.
        keymap: MMSeg's; only the image and its label map are moved.
        update_pad_shape: See MMSeg.

    Raises:
        ValueError: albumentations is not installed, `keymap` names something else, or an image
            brings along what would stay as it was.
    """

    def __init__(
        self,
        transforms: Sequence[Mapping],
        keymap: Mapping[str, str] | None = None,
        update_pad_shape: bool = False,
    ) -> None:
        if keymap is not None and dict(keymap) != TARGETS:
            raise ValueError(f'Albu: expected keymap={TARGETS}, found {dict(keymap)}')
        try:
            super().__init__([dict(each) for each in transforms], keymap, update_pad_shape)
        except ImportError:
            raise ValueError(
                'Albu: expected the package albumentations, which is not installed'
            ) from None

    def transform(self, results: dict) -> dict:
        check_moved(results, 'Albu')
        others = set(results.get('seg_fields', ())) - {'gt_seg_map'}
        if others:
            raise ValueError(
                f'Albu would turn {results.get("img_path", "an image")} and leave its '
                f'{", ".join(sorted(others))} behind; leave it out of the pipeline'
            )
        given = dict(image=np.ascontiguousarray(results['img'][..., ::-1]))
        labels, places = results.get('gt_seg_map'), ()
        if labels is not None:
            ignored = results.get('ignore_index', USUAL)
            places = np.unique(labels)
            known = np.array([ignored, *places], np.int32)
            bits = np.uint8 if len(known) < 256 else np.uint16
            given['mask'] = (np.searchsorted(places, labels) + 1).astype(bits)
        found = self.aug(**given)
        results['img'] = np.ascontiguousarray(found['image'][..., ::-1])
        results['img_shape'] = results['img'].shape[:2]
        if labels is not None:
            where = found['mask']
            results['gt_seg_map'] = known[np.where(where < len(known), where, 0)]
        if self.update_pad_shape:
            results['pad_shape'] = results['img'].shape
        return results

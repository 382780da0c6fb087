"""Label maps that are painted: a colour for each class."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from mmcv.transforms import BaseTransform

from mmseg_siglip.datasets.transforms.loading import path_in, read_bytes
from mmseg_siglip.io.exact_labels import refuse_inexact
from mmseg_siglip.io.image import MAX_PIXELS, decode_image
from mmseg_siglip.registry import TRANSFORMS


@TRANSFORMS.register_module()
class LoadColouredLabels(BaseTransform):
    """Load an RGB ``results['seg_map_path']`` as class indices, see `LoadAnnotations`.

    Args:
        colours: (C, 3), red, green and blue of each class, 0 to 255.
        void_colours: Further ones, whose pixels are ignored.
        ignore_index: Their label.
        max_pixels: Largest width x height that is decoded.
        backend_args: Arguments of MMEngine's file backend.

    Raises:
        ValueError: Two classes have one colour, ``ignore_index`` is a class, or a picture has
            another colour or another size than its image.
    """

    def __init__(
        self,
        *,
        colours: Sequence[Sequence[int]],
        void_colours: Sequence[Sequence[int]] = (),
        ignore_index: int = 255,
        max_pixels: int = MAX_PIXELS,
        backend_args: dict | None = None,
    ) -> None:
        if 0 <= ignore_index < len(colours):
            raise ValueError(f'ignore_index={ignore_index} is one of the {len(colours)} classes')
        every = [tuple(colour) for colour in (*colours, *void_colours)]
        if len(set(every)) != len(every):
            raise ValueError('LoadColouredLabels: expected colours that all differ')
        labels = [*range(len(colours)), *[ignore_index] * len(void_colours)]
        codes = [code(np.array(colour)) for colour in every]
        order = np.argsort(codes)
        self._codes, self._labels = np.array(codes)[order], np.array(labels, np.int32)[order]
        self.ignore_index = ignore_index
        self.max_pixels, self.backend_args = max_pixels, backend_args

    def transform(self, results: dict) -> dict:
        path = path_in(results, 'seg_map_path', type(self).__name__)
        data = read_bytes(path, self.backend_args)
        refuse_inexact(data, path)
        picture = decode_image(data, path, max_pixels=self.max_pixels)[..., ::-1]
        expected = tuple(results.get('ori_shape', picture.shape[:2]))
        if picture.shape[:2] != expected:
            raise ValueError(
                f'{path}: expected the size {expected} (height, width) of its image, found '
                f'{picture.shape[:2]}'
            )
        codes = code(picture)
        place = np.searchsorted(self._codes, codes).clip(max=len(self._codes) - 1)
        strange = self._codes[place] != codes
        if strange.any():
            colour = picture[strange][0].tolist()
            raise ValueError(f'{path} holds the colour {colour}, which is no class')
        results['gt_seg_map'], results['ignore_index'] = self._labels[place], self.ignore_index
        results.setdefault('seg_fields', []).append('gt_seg_map')
        return results


def code(rgb: np.ndarray) -> np.ndarray:
    """Colours (..., 3) as one number each."""
    return rgb.astype(np.int64) @ np.array([1 << 16, 1 << 8, 1])

"""Regions of an image as an input, from a file beside it to the data sample."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmengine.structures import PixelData
from mmseg.datasets import transforms

from mmseg_siglip.datasets.transforms.loading import read_bytes
from mmseg_siglip.io.image import MAX_PIXELS
from mmseg_siglip.io.regions_file import decode_regions
from mmseg_siglip.registry import TRANSFORMS


@TRANSFORMS.register_module()
class LoadRegions(BaseTransform):
    """Load the regions of an image: ``results['regions_path']``, or a file named as the image.

    Adds ``regions``, int64 (H, W), 0 is none, or bool (M, H, W). They keep their size when the
    image is resized; segmentors bring them to it.

    Args:
        folder: Of the files; by default an image's own.
        suffix: What the image's name ends in instead of its own suffix: ``.npz``, ``.npy`` or
            ``.png``, see `decode_regions`.
        max_pixels: Largest width x height that is decoded.
        backend_args: Arguments of MMEngine's file backend.
    """

    def __init__(
        self,
        *,
        folder: str | None = None,
        suffix: str = '.npz',
        max_pixels: int = MAX_PIXELS,
        backend_args: dict | None = None,
    ) -> None:
        self.folder, self.suffix = folder, suffix
        self.max_pixels, self.backend_args = max_pixels, backend_args

    def transform(self, results: dict) -> dict:
        path = results.get('regions_path') or self._beside(results['img_path'])
        data = read_bytes(path, self.backend_args)
        regions = decode_regions(data, path, max_pixels=self.max_pixels)
        expected = tuple(results.get('ori_shape', regions.shape[-2:]))[:2]
        if regions.shape[-2:] != expected:
            raise ValueError(
                f'{path} is {regions.shape[-2]} x {regions.shape[-1]} (height x width), but its '
                f'image {results.get("img_path")} is {expected[0]} x {expected[1]}'
            )
        results['regions'] = regions
        return results

    def _beside(self, image: str) -> str:
        path = Path(image).with_suffix(self.suffix)
        return str(path if self.folder is None else Path(self.folder, path.name))

    def __repr__(self) -> str:
        return f'{type(self).__name__}(folder={self.folder!r}, suffix={self.suffix!r})'


@TRANSFORMS.register_module()
class PackSegInputs(transforms.PackSegInputs):
    """MMSeg's packing, with ``regions`` where an image has some.

    Raises:
        ValueError: The image was mirrored or cut, and its regions were not.
    """

    def transform(self, results: dict) -> dict:
        packed = super().transform(results)
        regions = results.get('regions')
        if regions is None:
            return packed
        if results.get('flip') or not _follow(results):
            raise ValueError(
                f'{results.get("img_path", "a sample")}: expected an image that was merely resized '
                'since its regions were loaded, found one that was mirrored or cut'
            )
        data = torch.from_numpy(np.ascontiguousarray(regions))
        packed['data_samples'].regions = PixelData(data=data if data.ndim == 3 else data[None])
        return packed


def _follow(results: dict) -> bool:
    """Whether the image has its regions' aspect, but for the rounding of a resize."""
    rows, columns = results['regions'].shape[-2:]
    height, width = results['img'].shape[:2]
    return abs(rows * width - columns * height) <= max(rows + columns, height + width)

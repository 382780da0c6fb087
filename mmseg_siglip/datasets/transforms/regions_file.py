"""Regions of an image as an input, from a file beside it to the data sample."""

from __future__ import annotations

import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmengine.structures import PixelData
from mmseg.datasets import transforms

from mmseg_siglip.datasets.transforms.loading import (
    UPRIGHT,
    file_beside,
    read_bytes,
    refuse_moved,
)
from mmseg_siglip.datasets.transforms.normals import packed_normals
from mmseg_siglip.io.image import MAX_PIXELS
from mmseg_siglip.io.regions_file import decode_regions
from mmseg_siglip.registry import TRANSFORMS

AXES = {None: (), 'horizontal': (-1,), 'vertical': (-2,), 'diagonal': (-2, -1)}
"""What is mirrored, by MMCV's names of directions."""


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
        path = results.get('regions_path')
        path = path or file_beside(results['img_path'], self.folder, self.suffix)
        refuse_moved(results, path, type(self).__name__)
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

    def __repr__(self) -> str:
        return f'{type(self).__name__}(folder={self.folder!r}, suffix={self.suffix!r})'


@TRANSFORMS.register_module()
class PackSegInputs(transforms.PackSegInputs):
    """MMSeg's packing, with ``regions`` where an image has some, mirrored where it is, with
    ``gt_normal_map``, and with what `refuse_late` notes.

    Raises:
        ValueError: The image was cut or filled up, and its regions were not.
    """

    def transform(self, results: dict) -> dict:
        packed = super().transform(results)
        if results.get(UPRIGHT):
            packed['data_samples'].set_metainfo({UPRIGHT: True})
        if 'gt_normal_map' in results:
            normals = PixelData(data=packed_normals(results))
            packed['data_samples'].set_data(dict(gt_normal_map=normals))
        regions = results.get('regions')
        if regions is None:
            return packed
        found, expected = results['img'].shape[:2], resized_size(results)
        if any(abs(side - wanted) > 1 for side, wanted in zip(found, expected, strict=True)):
            raise ValueError(
                f'{results.get("img_path", "a sample")}: expected an image that was merely resized '
                f'or mirrored since its regions were loaded, {expected[0]} x {expected[1]} '
                f'(height x width), found one of {found[0]} x {found[1]}'
            )
        direction = results.get('flip_direction', 'horizontal') if results.get('flip') else None
        data = torch.from_numpy(np.flip(regions, AXES[direction]).copy())
        packed['data_samples'].regions = PixelData(data=data if data.ndim == 3 else data[None])
        return packed


def resized_size(results: dict) -> tuple[int, int]:
    """(height, width) of an image that has its regions' size, but for the one resize that MMCV
    noted."""
    across, down = results.get('scale_factor', (1.0, 1.0))
    rows, columns = results['regions'].shape[-2:]
    return round(rows * down), round(columns * across)

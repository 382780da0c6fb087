"""Depth maps for training and evaluation: loading, KITTI's crop, ShapesWorld's truth."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from mmcv.transforms import BaseTransform

from mmseg_siglip.datasets.transforms.loading import path_in, read_bytes, refuse_late
from mmseg_siglip.io.depth_unit import is_one_of
from mmseg_siglip.io.image import MAX_PIXELS, decode_depth
from mmseg_siglip.registry import TRANSFORMS

KB_HEIGHT, KB_WIDTH = 352, 1216


@TRANSFORMS.register_module()
class LoadDepthAnnotation(BaseTransform):
    """Load ``results['depth_map_path']`` in metres; 0 where there is none.

    Adds ``gt_depth_map``, float32 (H, W), and the same as ``loaded_depth``, by which
    `NormalsFromDepth` sees that nothing has moved it. MMSeg's transform of this name takes any file
    for metres; here what cannot be a depth map of the image is refused.

    Args:
        depth_rescale_factor: Metres per unit of the file; 1e-3 for millimetres, 1 / 256 for KITTI.
            By default what the data set says in ``results``.
        invalid_values: Values of the file that mean "none", besides 0; likewise.
        max_depth: Metres. If most of a map is farther, the unit must be mistaken. Single pixels
            may be; losses and metrics have a bound of their own.
        allow_empty: Whether a map may have no valid pixel at all.
        max_pixels: Largest width x height that is decoded.
        backend_args: Arguments of MMEngine's file backend.
    """

    def __init__(
        self,
        *,
        depth_rescale_factor: float | None = None,
        invalid_values: Sequence[float] | None = None,
        max_depth: float | None = None,
        allow_empty: bool = False,
        max_pixels: int = MAX_PIXELS,
        backend_args: dict | None = None,
    ) -> None:
        self.given = dict(
            depth_rescale_factor=depth_rescale_factor,
            invalid_values=invalid_values,
            max_depth=max_depth,
        )
        self.allow_empty = allow_empty
        self.max_pixels = max_pixels
        self.backend_args = backend_args

    def transform(self, results: dict) -> dict:
        path = path_in(results, 'depth_map_path', type(self).__name__)
        refuse_late(results, path, type(self).__name__)
        defaults = dict(depth_rescale_factor=1.0, invalid_values=(), max_depth=float('inf'))
        option = {
            name: results.get(name, default) if self.given[name] is None else self.given[name]
            for name, default in defaults.items()
        }
        unit = option['depth_rescale_factor']
        if not 0 < unit < float('inf'):
            raise ValueError(
                f'{path}: depth_rescale_factor: expected metres per unit, a positive number, found '
                f'{unit}'
            )
        data = read_bytes(path, self.backend_args)
        depth = decode_depth(data, path, per_metre=1 / unit, max_pixels=self.max_pixels)
        self._check_size(depth, results)
        valid = np.isfinite(depth) & (depth > 0) & ~is_one_of(depth, option['invalid_values'])
        depth = np.where(valid, depth.astype(np.float64) * unit, 0)
        self._check_unit(depth[valid], option, path)
        results['gt_depth_map'] = results['loaded_depth'] = depth.astype(np.float32)
        results.setdefault('seg_fields', []).append('gt_depth_map')
        results['depth_rescale_factor'] = unit
        return results

    def _check_size(self, depth: np.ndarray, results: dict) -> None:
        expected = tuple(results.get('ori_shape', depth.shape))[:2]
        if depth.shape != expected:
            raise ValueError(
                f'{results["depth_map_path"]} is {depth.shape[0]} x {depth.shape[1]} (height x '
                f'width), but its image {results.get("img_path")} is {expected[0]} x {expected[1]}'
            )

    def _check_unit(self, metres: np.ndarray, option: dict, path: str) -> None:
        if not len(metres):
            if self.allow_empty:
                return
            raise ValueError(f'{path}: expected some valid depth, found none')
        middle = float(np.median(metres))
        if middle > option['max_depth']:
            raise ValueError(
                f'{path}: expected depth up to {option["max_depth"]} m, found a median of '
                f'{middle:.4g} m; is {option["depth_rescale_factor"]:.6g} m the unit of the file?'
            )

    def __repr__(self) -> str:
        given = ', '.join(f'{name}={value}' for name, value in self.given.items())
        return f'{type(self).__name__}({given}, allow_empty={self.allow_empty})'


@TRANSFORMS.register_module()
class LoadShapesDepth(BaseTransform):
    """Take the depth of a ``ShapesWorldDataset`` scene, metres, in place of its label map.

    Adds ``gt_depth_map`` and ``loaded_depth``, see `LoadDepthAnnotation`, and ``intrinsics`` of a
    camera whose focal length is the short side, by which a shape at 1 metre has the size that
    scenes give it.
    """

    def transform(self, results: dict) -> dict:
        results.pop('gt_seg_map', None)
        depth = results['scene'].depth.copy()
        results['gt_depth_map'] = results['loaded_depth'] = depth
        height, width = depth.shape
        focal = float(min(height, width))
        results['intrinsics'] = (focal, focal, (width - 1) / 2, (height - 1) / 2)
        results['seg_fields'] = ['gt_depth_map']
        return results


@TRANSFORMS.register_module()
class KBCrop(BaseTransform):
    """KITTI's benchmark crop: the lowest 352 rows and the central 1216 columns.

    Raises:
        ValueError: The image is smaller than that.
    """

    def transform(self, results: dict) -> dict:
        height, width = results['img'].shape[:2]
        if height < KB_HEIGHT or width < KB_WIDTH:
            raise ValueError(
                f'{results.get("img_path")}: expected at least {KB_HEIGHT} x {KB_WIDTH} (height x '
                f'width) for KITTI, found {height} x {width}'
            )
        top, left = height - KB_HEIGHT, (width - KB_WIDTH) // 2
        for key in ('img', *results.get('seg_fields', ())):
            results[key] = np.ascontiguousarray(
                results[key][top : top + KB_HEIGHT, left : left + KB_WIDTH]
            )
        results['img_shape'] = results['ori_shape'] = (KB_HEIGHT, KB_WIDTH)
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}()'

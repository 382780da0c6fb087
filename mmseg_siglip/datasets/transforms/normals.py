"""Surface normals as truth, where a data set has depth alone."""

from __future__ import annotations

import numpy as np
import torch
from mmcv.transforms import BaseTransform
from torch import Tensor

from mmseg_siglip.datasets.surface_normals import Intrinsics, normals_from_depth
from mmseg_siglip.registry import TRANSFORMS

TURNED = {
    None: (1, 1, 1),
    'horizontal': (-1, 1, 1),
    'vertical': (1, -1, 1),
    'diagonal': (-1, -1, 1),
}
"""What mirroring a picture does to x, y and z."""


@TRANSFORMS.register_module()
class NormalsFromDepth(BaseTransform):
    """Add ``gt_normal_map``, float32 (H, W, 3), see `normals_from_depth`.

    It stands directly behind what loads ``gt_depth_map``, where depth is as the camera saw it.
    What resizes or crops then moves normals as it moves depth and changes none: they are those of
    the scene, whose camera follows the picture. `PackSegInputs` turns mirrored ones.

    Args:
        intrinsics: Focal lengths (x, y) and principal point (x, y), pixels; by default what
            ``results`` say.
        radius: See `normals_from_depth`.
        jump: See `normals_from_depth`.
    """

    def __init__(
        self, *, intrinsics: Intrinsics | None = None, radius: int = 2, jump: float = 0.05
    ) -> None:
        self.intrinsics, self.radius, self.jump = intrinsics, radius, jump

    def transform(self, results: dict) -> dict:
        name = results.get('img_path', 'a sample')
        intrinsics = self.intrinsics or results.get('intrinsics')
        for found, what in (
            (intrinsics, 'intrinsics'),
            (results.get('gt_depth_map'), 'gt_depth_map'),
        ):
            if found is None:
                raise ValueError(f'{name}: NormalsFromDepth expected {what}, found none')
        depth = results['gt_depth_map']
        if results.get('flip') or depth is not results.get('loaded_depth', depth):
            raise ValueError(
                f'{name}: expected NormalsFromDepth directly behind what loads depth, found it '
                'behind what moves or mirrors pixels, for which the intrinsics are no longer right'
            )
        normals = normals_from_depth(depth, intrinsics, radius=self.radius, jump=self.jump)
        return add_normals(results, normals, name)

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(intrinsics={self.intrinsics}, radius={self.radius}, '
            f'jump={self.jump})'
        )


def add_normals(results: dict, normals: np.ndarray, name: str) -> dict:
    """`results` with ``gt_normal_map``, which moves with the picture.

    Raises:
        ValueError: There is one.
    """
    if 'gt_normal_map' in results:
        raise ValueError(f'{name}: expected one transform that gives gt_normal_map, found two')
    results['gt_normal_map'] = normals
    results.setdefault('seg_fields', []).append('gt_normal_map')
    return results


def packed_normals(results: dict) -> Tensor:
    """``gt_normal_map`` as (3, H, W), turned as the picture is mirrored."""
    direction = results.get('flip_direction') if results.get('flip') else None
    turned = results['gt_normal_map'] * np.float32(TURNED[direction])
    return torch.from_numpy(np.ascontiguousarray(turned.transpose(2, 0, 1)))

"""Surface normals as truth: from a file, or of depth where a data set has no more."""

from __future__ import annotations

import numpy as np
import torch
from mmcv.transforms import BaseTransform
from torch import Tensor

from mmseg_siglip.datasets.surface_normals import Intrinsics, normals_from_depth
from mmseg_siglip.datasets.transforms.loading import file_beside, read_bytes, refuse_late
from mmseg_siglip.io.image import MAX_PIXELS, decode_image
from mmseg_siglip.io.normal_colours import normals_of_colours
from mmseg_siglip.registry import TRANSFORMS

TURNED = {
    None: (1, 1, 1),
    'horizontal': (-1, 1, 1),
    'vertical': (1, -1, 1),
    'diagonal': (-1, -1, 1),
}
"""What mirroring a picture does to x, y and z."""


@TRANSFORMS.register_module()
class LoadNormals(BaseTransform):
    """Load the normals of an image from a picture: x, y and z from -1 to 1 as red, green and blue.

    Adds ``gt_normal_map``, float32 (H, W, 3), of length 1, or zeros where a colour is no direction,
    such as black or grey. It stands before whatever resizes, crops or mirrors.

    Args:
        folder: Of the pictures; by default an image's own.
        suffix: What the image's name ends in instead of its own suffix.
        axes: What x, y and z of a file are multiplied by, 1 or -1, so that they point to the right,
            upwards and towards the viewer.
        max_pixels: Largest width x height that is decoded.
        backend_args: Arguments of MMEngine's file backend.
    """

    def __init__(
        self,
        *,
        folder: str | None = None,
        suffix: str = '.normals.png',
        axes: tuple[int, int, int] = (1, 1, 1),
        max_pixels: int = MAX_PIXELS,
        backend_args: dict | None = None,
    ) -> None:
        if len(axes) != 3 or not {*axes} <= {1, -1}:
            raise ValueError(f'LoadNormals.axes: expected three of 1 and -1, found {axes}')
        self.folder, self.suffix, self.axes = folder, suffix, tuple(axes)
        self.max_pixels, self.backend_args = max_pixels, backend_args

    def transform(self, results: dict) -> dict:
        path = file_beside(results['img_path'], self.folder, self.suffix)
        refuse_late(results, path, type(self).__name__)
        picture = decode_image(
            read_bytes(path, self.backend_args), path, max_pixels=self.max_pixels
        )
        expected = tuple(results.get('ori_shape', picture.shape))[:2]
        if picture.shape[:2] != expected:
            raise ValueError(
                f'{path} is {picture.shape[0]} x {picture.shape[1]} (height x width), but its '
                f'image {results["img_path"]} is {expected[0]} x {expected[1]}'
            )
        normals = normals_of_colours(picture[..., ::-1]) * np.float32(self.axes)
        if not normals.any():
            raise ValueError(
                f'{path}: expected normals as red, green and blue, found no colour of length 1'
            )
        return add_normals(results, normals, results['img_path'])

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(folder={self.folder!r}, suffix={self.suffix!r}, '
            f'axes={self.axes})'
        )


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
        if depth is not results.get('loaded_depth', depth):
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
        ValueError: There is one, or the picture is mirrored already.
    """
    if 'gt_normal_map' in results:
        raise ValueError(f'{name}: expected one transform that gives gt_normal_map, found two')
    if results.get('flip'):
        raise ValueError(
            f'{name}: expected normals before the picture is mirrored, found them behind'
        )
    results['gt_normal_map'] = normals
    results.setdefault('seg_fields', []).append('gt_normal_map')
    return results


def packed_normals(results: dict) -> Tensor:
    """``gt_normal_map`` as (3, H, W), turned as the picture is mirrored."""
    direction = results.get('flip_direction') if results.get('flip') else None
    turned = results['gt_normal_map'] * np.float32(TURNED[direction])
    return torch.from_numpy(np.ascontiguousarray(turned.transpose(2, 0, 1)))

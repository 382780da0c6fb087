"""MMSegmentation's transforms that cut, turn and fill, where truth would stay or become wrong.

They fill what they uncover with 255. That is no class of up to 255; of more it is one, of a depth
map it is 255 metres, and of normals a direction. `LoadAnnotations` notes the label that counts
nowhere. What moves pixels is noted as well, for `refuse_late`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Sized

import mmcv
import numpy as np
from mmcv.transforms import BaseTransform, CenterCrop, Pad
from mmseg.datasets import transforms as mmseg

from mmseg_siglip.datasets.transforms.loading import MOVED
from mmseg_siglip.datasets.transforms.referring import MASKS
from mmseg_siglip.registry import TRANSFORMS

USUAL = 255
NOTHING = (
    ('gt_depth_map', 'no depth', 'is metres'),
    ('gt_normal_map', 'no normal', 'is a direction'),
)
"""Maps in which 0 is nothing, and what everything else is."""


def check_fill(results: Mapping, fill: int | None, setting: str, name: str) -> None:
    """Refuse a fill that would count.

    Args:
        results: What a transform is given.
        fill: What it would put into ``gt_seg_map`` and other ``seg_fields``; None if nothing.
        setting: The argument that says so.
        name: The transform.

    Raises:
        ValueError: It is a class, a depth, or a normal.
    """
    if fill is None:
        return
    ignored = results.get('ignore_index', USUAL)
    if 'gt_seg_map' in results and fill == USUAL and ignored > USUAL:
        raise ValueError(
            f'{name}: expected {setting}={ignored}, the ignore_index of LoadAnnotations, found '
            f'{fill}, which is a class'
        )
    for key, nothing, counts in NOTHING:
        if key in results and fill != 0:
            raise ValueError(
                f'{name}: expected {setting}=0, which means {nothing}, found {fill}, which {counts}'
            )


def check_moved(results: dict, name: str) -> None:
    """Refuse to turn an image without what goes with it.

    Raises:
        ValueError: There are phrases or regions, which would stay as they were, or normals, whose
            directions would.
    """
    refuse_to_leave(results, (MASKS, 'text', 'regions', 'gt_normal_map'), name, 'turn')


def check_cut(results: dict, name: str) -> None:
    """Refuse to cut or fill up an image without its phrases' masks, which would stay as they were.

    Raises:
        ValueError: There are some.
    """
    refuse_to_leave(results, (MASKS,), name, 'cut or fill up')


def refuse_to_leave(results: dict, keys: Sequence[str], name: str, doing: str) -> None:
    """Note what moves an image, unless something of it would stay behind.

    Raises:
        ValueError: Something would.
    """
    left = [key for key in keys if key in results]
    if left:
        raise ValueError(
            f'{name} would {doing} {results.get("img_path", "an image")} and leave its '
            f'{", ".join(left)} behind; leave it out of the pipeline'
        )
    results[MOVED] = name


@TRANSFORMS.register_module()
class RandomRotate(mmseg.RandomRotate):
    """MMSeg's, see `check_fill` and `check_moved`."""

    def transform(self, results: dict) -> dict:
        check_moved(results, 'RandomRotate')
        check_fill(results, self.seg_pad_val, 'seg_pad_val', 'RandomRotate')
        return super().transform(results)


@TRANSFORMS.register_module()
class RandomMosaic(mmseg.RandomMosaic):
    """MMSeg's, see `check_fill` and `check_moved`; MMSeg now and then asks for the image behind the
    last one."""

    def get_indices(self, dataset: Sized) -> list[int]:
        return np.random.randint(len(dataset), size=3).tolist()

    def transform(self, results: dict) -> dict:
        check_moved(results, 'RandomMosaic')
        check_fill(results, self.seg_pad_val, 'seg_pad_val', 'RandomMosaic')
        return super().transform(results)


@TRANSFORMS.register_module()
class RandomCutOut(mmseg.RandomCutOut):
    """MMSeg's, see `check_fill`; its own fill ends at 255, so None is left for more classes."""

    def transform(self, results: dict) -> dict:
        check_fill(results, self.seg_fill_in, 'seg_fill_in=None or seg_fill_in', 'RandomCutOut')
        return super().transform(results)


@TRANSFORMS.register_module()
class RandomCrop(mmseg.RandomCrop):
    """MMSeg's, see `check_cut`, which must know what not to count for ``cat_max_ratio``."""

    def transform(self, results: dict) -> dict:
        check_cut(results, 'RandomCrop')
        if self.cat_max_ratio < 1:
            check_fill(results, self.ignore_index, 'ignore_index', 'RandomCrop')
        return super().transform(results)


@TRANSFORMS.register_module()
class GenerateEdge(mmseg.GenerateEdge):
    """MMSeg's, which must know between what there is no edge."""

    def transform(self, results: dict) -> dict:
        check_fill(results, self.ignore_index, 'ignore_index', 'GenerateEdge')
        return super().transform(results)


@TRANSFORMS.register_module(name='CenterCrop')
class CropCentre(CenterCrop):
    """MMCV's ``CenterCrop``, see `check_cut`; of depth maps and normals, which it would leave
    behind, too."""

    def transform(self, results: dict) -> dict:
        check_cut(results, 'CenterCrop')
        return super().transform(results)

    def _crop_seg_map(self, results: dict, bboxes: np.ndarray) -> None:
        for key in results.get('seg_fields', ()):
            moved = dict(gt_seg_map=results[key])
            super()._crop_seg_map(moved, bboxes)
            results[key] = moved['gt_seg_map']


@TRANSFORMS.register_module(name='Pad')
class PadLabels(Pad):
    """MMCV's ``Pad``, see `check_fill` and `check_cut`; of depth maps, which it would leave behind,
    too."""

    def transform(self, results: dict) -> dict:
        check_cut(results, 'Pad')
        return super().transform(results)

    def _pad_seg(self, results: dict) -> None:
        fill = self.pad_val.get('seg', USUAL)
        check_fill(results, fill, 'pad_val=dict(img=0, seg=...) with seg', 'Pad')
        super()._pad_seg(results)
        for key in set(results.get('seg_fields', ())) - {'gt_seg_map'}:
            shape = results['pad_shape'][:2]
            results[key] = mmcv.impad(
                results[key], shape=shape, pad_val=fill, padding_mode=self.padding_mode
            )


@TRANSFORMS.register_module()
class RandomRotFlip(BaseTransform):
    """Turn an image a little, or by right angles with a mirror; its maps by their nearest pixels.

    MMSeg's of this name interpolates between labels, fills corners with class 0, and fails on
    labels of 32 bits.

    Args:
        rotate_prob: How often an image is turned by an angle of `degree`.
        flip_prob: How often one of the rest is turned by right angles, then mirrored.
        degree: Lowest and highest angle, degrees; a number stands for both signs.
        seg_pad_val: Label of the corners that come from outside; a depth map has 0 there, none.

    Raises:
        ValueError: A probability is none, or the range of angles is empty.
    """

    def __init__(
        self,
        *,
        rotate_prob: float = 0.5,
        flip_prob: float = 0.5,
        degree: float | Sequence[float] = (-20, 20),
        seg_pad_val: int = USUAL,
    ) -> None:
        if not (0 <= rotate_prob <= 1 and 0 <= flip_prob <= 1):
            raise ValueError(
                'RandomRotFlip: expected rotate_prob and flip_prob in [0, 1], found '
                f'{rotate_prob} and {flip_prob}'
            )
        degrees = (-degree, degree) if isinstance(degree, (int, float)) else tuple(degree)
        if len(degrees) != 2 or not degrees[0] < degrees[1]:
            raise ValueError(f'RandomRotFlip: expected a range of degrees, found {degree}')
        self.rotate_prob, self.flip_prob = rotate_prob, flip_prob
        self.degree, self.seg_pad_val = degrees, seg_pad_val

    def transform(self, results: dict) -> dict:
        check_moved(results, 'RandomRotFlip')
        maps = results.get('seg_fields', ())
        fill = {key: 0 if key == 'gt_depth_map' else self.seg_pad_val for key in maps}
        if 'gt_seg_map' in fill:
            check_fill(results, self.seg_pad_val, 'seg_pad_val', 'RandomRotFlip')
        if np.random.rand() < self.rotate_prob:
            angle = np.random.uniform(*self.degree)
            results['img'] = mmcv.imrotate(results['img'], angle)
            for key, value in fill.items():
                results[key] = mmcv.imrotate(
                    results[key], angle, border_value=value, interpolation='nearest'
                )
        elif np.random.rand() < self.flip_prob:
            turns, axis = np.random.randint(4), np.random.randint(2)
            for key in ('img', *fill):
                results[key] = np.flip(np.rot90(results[key], turns), axis).copy()
        results['img_shape'] = results['img'].shape[:2]
        return results

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(rotate_prob={self.rotate_prob}, flip_prob={self.flip_prob}, '
            f'degree={self.degree}, seg_pad_val={self.seg_pad_val})'
        )

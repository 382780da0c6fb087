"""Load an image and its label map, and refuse what would be read wrong."""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
from mmcv.transforms import BaseTransform
from mmengine import fileio
from PIL import Image

from mmseg_siglip.datasets.transforms.label_colours import labels_of_colours
from mmseg_siglip.io.exact_labels import refuse_inexact, refuse_transparent
from mmseg_siglip.io.image import MAX_PIXELS, decode_image, decode_labels
from mmseg_siglip.io.regular_file import read_regular
from mmseg_siglip.registry import TRANSFORMS

ANNOTATIONS = ('seg_map_path', 'depth_map_path', 'mask_sources')
ORIENTATION = 274  # of EXIF
MOVED = 'moved_by'
"""Key of the name of a transform that has cut, filled or turned the image."""
UPRIGHT = 'truth_upright'
"""Key of whether an image was mirrored before its truth was loaded."""


def read_bytes(path: str, backend_args: dict | None) -> bytes:
    """Read a regular file of this machine, or any file through MMEngine's file backends.

    Raises:
        ValueError: With the path and the reason if it cannot be read.
    """
    if backend_args is not None or '://' in path:
        read = partial(fileio.get, backend_args=backend_args)
    else:
        read = read_regular
    try:
        return read(path)
    except OSError as error:
        raise ValueError(f'{path} cannot be read: {error.strerror or error}') from None
    except KeyError:
        raise ValueError(f'{path} cannot be read: MMEngine has no backend for such files') from None
    except ValueError as error:
        raise ValueError(f'{path} {error}') from None


def bytes_in(results: Mapping, key: str, backend_args: dict | None) -> bytes:
    """The file of ``results[key]``: what a data set brought along (``encoded``), or read."""
    brought = results.get('encoded', {}).get(key)
    return read_bytes(results[key], backend_args) if brought is None else brought


def path_in(results: Mapping, key: str, loader: str) -> str:
    """The path of an annotation.

    Raises:
        ValueError: The data set gives none.
    """
    if results.get(key) is None:
        raise ValueError(
            f'{loader}: expected {key} of {results.get("img_path", "an image")} from the data '
            f'set, found none; set data_prefix.{key}, or leave {loader} out of the pipeline'
        )
    return results[key]


def refuse_late(results: dict, path: str, loader: str) -> None:
    """Refuse to load truth for an image that is no longer where it was.

    One that was merely resized is right in a test, whose predictions come back to the original
    size, and so is a mirrored one, whose predictions are turned back; training refuses both.

    Args:
        results: Of the image; `UPRIGHT` is noted in them.
        path: Of the image or its truth.
        loader: The transform that loads it.

    Raises:
        ValueError: See `refuse_moved`.
    """
    refuse_moved(results, path, loader)
    results[UPRIGHT] = bool(results.get('flip'))


def refuse_moved(results: dict, path: str, loader: str) -> None:
    """Refuse to load anything for an image that was moved; see `refuse_late`.

    Raises:
        ValueError: It was cut, filled or turned.
    """
    if MOVED in results:
        raise ValueError(
            f'{path}: expected {loader} before {results[MOVED]}, which has moved the image and '
            'could not move what was not loaded yet'
        )


def file_beside(image: str, folder: str | None, suffix: str) -> str:
    """A file named as an image but for its suffix, beside it or in a folder."""
    path = Path(image).with_suffix(suffix)
    return str(path if folder is None else Path(folder, path.name))


def warn_if_turned(data: bytes, path: str) -> None:
    """Say that an annotated image is stored turned, since nothing tells how its annotation was
    drawn; half a turn leaves the size as it was."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            orientation = image.getexif().get(ORIENTATION, 1)
    except Exception:  # Pillow's readers raise nearly every built-in type on bad metadata
        return
    if orientation != 1:
        warnings.warn(
            f'{path} has EXIF orientation {orientation} and is read as it is stored; if its '
            'annotation was drawn on the upright image, the two do not fit',
            stacklevel=2,
        )


@TRANSFORMS.register_module()
class LoadImageFromFile(BaseTransform):
    """Load ``results['img_path']`` as a BGR image, see ``decode_image``.

    Adds ``img`` (uint8 or float32 (H, W, 3)), ``img_shape`` and ``ori_shape`` (both (H, W)).

    Args:
        to_float32: Return the values as float32 in [0, 255].
        apply_exif: Turn photographs upright. Right for inference, wrong for an annotated image,
            whose label map was drawn on the stored pixels.
        max_pixels: Largest width x height that is decoded; Pillow refuses more than twice
            ``PIL.Image.MAX_IMAGE_PIXELS`` by itself.
        backend_args: Arguments of MMEngine's file backend.
    """

    def __init__(
        self,
        *,
        to_float32: bool = False,
        apply_exif: bool = False,
        max_pixels: int = MAX_PIXELS,
        backend_args: dict | None = None,
    ) -> None:
        limit = Image.MAX_IMAGE_PIXELS
        if max_pixels < 1 or (limit is not None and max_pixels > 2 * limit):
            raise ValueError(
                f'max_pixels={max_pixels} must lie in [1, {2 * limit if limit else "inf"}], '
                'twice PIL.Image.MAX_IMAGE_PIXELS'
            )
        self.to_float32 = to_float32
        self.apply_exif = apply_exif
        self.max_pixels = max_pixels
        self.backend_args = backend_args

    def transform(self, results: dict) -> dict:
        path = results['img_path']
        if self.apply_exif and results.get('seg_map_path') is not None:
            raise ValueError(
                f'apply_exif=True would turn {path} away from its label map '
                f'{results["seg_map_path"]}; leave it off for annotated images'
            )
        data = bytes_in(results, 'img_path', self.backend_args)
        img = decode_image(data, path, apply_exif=self.apply_exif, max_pixels=self.max_pixels)
        if any(results.get(key) is not None for key in ANNOTATIONS):
            warn_if_turned(data, path)
        results['img'] = img.astype(np.float32) if self.to_float32 else img
        results['img_shape'] = img.shape[:2]
        results['ori_shape'] = img.shape[:2]
        return results

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(to_float32={self.to_float32}, apply_exif={self.apply_exif}, '
            f'max_pixels={self.max_pixels}, backend_args={self.backend_args})'
        )


@TRANSFORMS.register_module()
class LoadAnnotations(BaseTransform):
    """Load ``results['seg_map_path']`` as a label map of any number of classes.

    Adds ``ignore_index`` and ``gt_seg_map``, int32 (H, W), which MMSeg's resizing, cropping,
    flipping, padding and rotation keep exact; ``PackSegInputs`` makes it int64.
    ``results['reduce_zero_label']`` and ``results['label_map']`` act as in MMSegmentation, in this
    order; where there are ``results['label_colours']``, a label for each colour, the file is a
    picture in these colours.

    Args:
        ignore_index: Label of pixels that count nowhere, in the file and after loading. Must be
            no class's index: 65535 where there are more than 255 classes.
        reduce_zero_label: Only to state what the dataset says; must agree with it if given.
        max_pixels: Largest width x height that is decoded.
        backend_args: Arguments of MMEngine's file backend.
    """

    def __init__(
        self,
        *,
        ignore_index: int = 255,
        reduce_zero_label: bool | None = None,
        max_pixels: int = MAX_PIXELS,
        backend_args: dict | None = None,
    ) -> None:
        self.ignore_index = ignore_index
        self.reduce_zero_label = reduce_zero_label
        self.max_pixels = max_pixels
        self.backend_args = backend_args

    def transform(self, results: dict) -> dict:
        path = path_in(results, 'seg_map_path', type(self).__name__)
        refuse_late(results, path, type(self).__name__)
        data = bytes_in(results, 'seg_map_path', self.backend_args)
        refuse_inexact(data, path)
        colours = results.get('label_colours')
        if colours is None:
            labels = self._indices(decode_labels(data, path, max_pixels=self.max_pixels), results)
        else:
            picture = decode_image(data, path, max_pixels=self.max_pixels)[..., ::-1]
            refuse_transparent(data, path)
            self._check_size(picture, results)
            labels = labels_of_colours(picture, colours, path)
        results['gt_seg_map'], results['ignore_index'] = labels, self.ignore_index
        results.setdefault('seg_fields', []).append('gt_seg_map')
        return results

    def _indices(self, labels: np.ndarray, results: dict) -> np.ndarray:
        path = results['seg_map_path']
        self._check_size(labels, results)
        if self._reduces(results):
            labels = self._without_zero(labels)
        if results.get('label_map') is not None:
            labels = self._mapped(labels, results['label_map'], path)
        elif labels.max() > self.ignore_index >= 0:
            raise ValueError(
                f'{path} holds label {labels.max()}, above ignore_index={self.ignore_index}; '
                'with more than 255 classes set ignore_index=65535 in the pipeline and the metric; '
                "a value that means none is named in FolderDataset's void_values"
            )
        return labels

    def _check_size(self, labels: np.ndarray, results: dict) -> None:
        expected = tuple(results.get('ori_shape', labels.shape[:2]))
        if labels.shape[:2] != expected:
            raise ValueError(
                f'{results["seg_map_path"]} is {labels.shape[0]} x {labels.shape[1]} (height x '
                f'width), but its image {results.get("img_path")} is {expected[0]} x {expected[1]}'
            )

    def _reduces(self, results: dict) -> bool:
        stated = self.reduce_zero_label
        if stated is not None and stated != results.get('reduce_zero_label', stated):
            raise ValueError(
                f'LoadAnnotations says reduce_zero_label={stated}, '
                f'the dataset {results["reduce_zero_label"]}'
            )
        return results.get('reduce_zero_label', bool(stated))

    def _without_zero(self, labels: np.ndarray) -> np.ndarray:
        void = (labels == 0) | (labels == self.ignore_index)
        return np.where(void, self.ignore_index, labels - 1).astype(np.int32)

    def _mapped(self, labels: np.ndarray, label_map: dict[int, int], path: str) -> np.ndarray:
        found, inverse = np.unique(labels, return_inverse=True)
        table = {self.ignore_index: self.ignore_index, **label_map}
        strange = [value for value in found.tolist() if value not in table]
        if strange:
            raise ValueError(
                f'{path} holds label {strange[0]}, which the dataset does not define: it has '
                f'{len(label_map)} from {min(label_map)} to {max(label_map)}; are these '
                'its labels, converted as its converter does? A value that means none is named in '
                'void_values, or is the ignore_index of dataset, pipeline and metric'
            )
        new = np.array([table[value] for value in found.tolist()], np.int32)
        return new[inverse].reshape(labels.shape)

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(ignore_index={self.ignore_index}, '
            f'reduce_zero_label={self.reduce_zero_label}, max_pixels={self.max_pixels}, '
            f'backend_args={self.backend_args})'
        )

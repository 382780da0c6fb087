"""Images of any mixture of sizes, normalised and left at their sizes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mmengine.model import BaseDataPreprocessor
from mmengine.structures import BaseDataElement, PixelData
from mmseg.models import SegDataPreProcessor
from mmseg.structures import SegDataSample
from torch import Tensor
from torch.nn.functional import interpolate, pad

from mmseg_siglip.device import upload
from mmseg_siglip.registry import MODELS

USUAL = 255


class UploadingPreProcessor(BaseDataPreprocessor):
    """MMEngine's, whose copies to a GPU nobody waits for. Its own ``non_blocking`` does nothing for
    samples, whose memory no loader page-locks."""

    def cast_data(self, data: object) -> object:
        """`data` with its tensors on the device."""
        if isinstance(data, Tensor):
            return upload(data, self.device)
        if isinstance(data, BaseDataElement):
            return data.new(**{key: self._moved(value) for key, value in data.items()})
        return super().cast_data(data)

    def _moved(self, value: object) -> object:
        if isinstance(value, (Tensor, BaseDataElement)):
            return self.cast_data(value)
        return value.to(self.device) if hasattr(value, 'to') else value


@MODELS.register_module()
class ImageListPreProcessor(UploadingPreProcessor, SegDataPreProcessor):
    """MMSeg's normalisation, without stacking at test time.

    MMSeg's own asks for images of one size, or pads them to one; windows need neither. Its list of
    channels, by which it turns BGR to RGB, is one that a GPU is waited for; here they are flipped.

    Raises:
        ValueError: In training, label maps would be padded with 255 where that is a class, or truth
            was loaded when its image had moved already; or a ``test_cfg`` asks for padding.
    """

    learnt_with = ('mean', 'std')

    def __init__(self, *args, bgr_to_rgb: bool = False, rgb_to_bgr: bool = False, **kwargs) -> None:
        super().__init__(*args, bgr_to_rgb=bgr_to_rgb, rgb_to_bgr=rgb_to_bgr, **kwargs)
        if self.test_cfg:
            raise ValueError(
                'data_preprocessor.test_cfg: expected none, since images are not padded at test '
                f'time, found {self.test_cfg}'
            )
        self.channel_conversion, self.flips_channels = False, self.channel_conversion

    def forward(self, data: dict, training: bool = False) -> dict:
        """As in MMSeg, but at test time ``inputs`` is a list of (3, H, W) float32, and what else
        samples hold, which only a metric asks for, stays where it is."""
        if training:
            self._check_fill(data.get('data_samples') or ())
            check_truth_fits(data['inputs'], data.get('data_samples') or ())
            images = [self._uploaded(image) for image in data['inputs']]
            return padded_normals(super().forward(dict(data, inputs=images), training))
        images = [self._uploaded(image).float() for image in data['inputs']]
        if hasattr(self, 'mean'):
            images = [(image - self.mean) / self.std for image in images]
        return dict(inputs=images, data_samples=data.get('data_samples'))

    def _uploaded(self, image: Tensor) -> Tensor:
        """An image on the device, its channels in the model's order."""
        image = upload(image, self.device)
        return image.flip(0) if self.flips_channels and len(image) == 3 else image

    def _check_fill(self, samples: Sequence[SegDataSample]) -> None:
        for sample in samples if self.seg_pad_val == USUAL else ():
            if 'gt_sem_seg' in sample and sample.gt_sem_seg.data.max() > USUAL:
                raise ValueError(
                    'data_preprocessor.seg_pad_val: expected the ignore_index of labels that go up '
                    f'to {int(sample.gt_sem_seg.data.max())}, found {USUAL}, which may be a class'
                )


def check_truth_fits(images: Sequence[Tensor], samples: Sequence[SegDataSample]) -> None:
    """Refuse to train on truth that its image has left behind, which padding would hide.

    Args:
        images: (C, H, W) each, as they come from the pipeline.
        samples: Theirs.

    Raises:
        ValueError: A map has another size than its image, or was loaded when that was mirrored.
    """
    for image, sample in zip(images, samples, strict=True):
        size, name = tuple(image.shape[-2:]), sample.metainfo.get('img_path', 'a sample')
        maps = [key for key in sample.keys() if key.startswith('gt_')]
        for key in maps:
            found = tuple(sample.get(key).shape[-2:])
            if found != size:
                raise ValueError(
                    f'{name}: expected a {key} of the size of the image to train on, '
                    f'{size[0]} x {size[1]} (height x width), found {found[0]} x {found[1]}; load '
                    'it before what resizes or cuts the image'
                )
        if maps and sample.metainfo.get('truth_upright'):
            raise ValueError(
                f'{name} was mirrored before its {", ".join(maps)} was loaded, which is not: load '
                'it first to train on it'
            )


def padded_normals(batch: dict) -> dict:
    """A stacked batch whose samples' ``gt_normal_map``, which MMSeg leaves at its size, are filled
    up to the batch's with zeros, no normals."""
    height, width = batch['inputs'].shape[-2:]
    for sample in batch['data_samples'] or ():
        if 'gt_normal_map' in sample:
            normals = sample.gt_normal_map.data
            down, right = height - normals.shape[-2], width - normals.shape[-1]
            sample.set_data(dict(gt_normal_map=PixelData(data=pad(normals, (0, right, 0, down)))))
    return batch


@MODELS.register_module()
class UnitImagePreProcessor(UploadingPreProcessor):
    """Images as RGB in [0, 1], each at its own size, in training and tests alike.

    For models of several encoders, each of which normalises for itself.

    Args:
        bgr_to_rgb: Whether images come as BGR, as MMSeg's pipelines load them.
    """

    def __init__(self, *, bgr_to_rgb: bool = True) -> None:
        super().__init__()
        self.bgr_to_rgb = bgr_to_rgb

    def forward(self, data: dict, training: bool = False) -> dict:
        """``inputs``: uint8 (3, H, W) each, or floats in 0..255, to a list of float32. At test time
        what samples hold stays where it is."""
        if training:
            data = self.cast_data(data)
        else:
            data = dict(data, inputs=[upload(image, self.device) for image in data['inputs']])
        images = [image.float() / 255 for image in data['inputs']]
        images = [image.flip(0) if self.bgr_to_rgb else image for image in images]
        return dict(inputs=images, data_samples=data.get('data_samples'))


def normalise(
    rgb: Tensor,
    preprocessor: SegDataPreProcessor,
    *,
    short_side: int | None = None,
    long_side: int | None = None,
) -> Tensor:
    """An RGB image as a model's encoder wants it, on the model's device.

    Args:
        rgb: (3, H, W), uint8 or float in [0, 1].
        preprocessor: The model's, with mean and std.
        short_side: Pixels that the short side becomes.
        long_side: Pixels that the long side becomes; without either, the size stays.
    """
    image = upload(rgb, preprocessor.mean.device).float()
    image = image if rgb.dtype == torch.uint8 else 255 * image
    sides = tuple(rgb.shape[-2:])
    scale = short_side / min(sides) if short_side else long_side / max(sides) if long_side else None
    if scale is not None:
        size = [max(round(side * scale), 1) for side in sides]
        image = interpolate(image[None], size=size, mode='bilinear', antialias=True)[0]
    return (image - preprocessor.mean) / preprocessor.std

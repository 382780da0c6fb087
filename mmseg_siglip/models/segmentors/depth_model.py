"""What every model of depth answers, however it is made.

Shapes: B images (3, H, W); a map is (C, H, W): depth, and of a model with normals in three more
channels their x, y and z: to the right, upwards and towards the viewer, of length 1.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import torch
from mmengine.structures import PixelData
from mmseg.models import DepthEstimator
from mmseg.structures import SegDataSample
from torch import Tensor
from torch.nn.functional import interpolate, normalize

from mmseg_siglip.models.segmentors.parts import check_finite, flipped_axes, places_by


class DepthModel(DepthEstimator):
    """MMSeg's `DepthEstimator` for images of any sizes, each predicted alone and never padded to
    its neighbours.

    Attributes:
        precision: Number format of prediction, see `mmseg_siglip.precision`.
    """

    precision: str

    @property
    @abstractmethod
    def predicts(self) -> str:
        """``depth`` in metres, or ``inverse``: inverse depth up to scale and shift."""

    @property
    @abstractmethod
    def has_normals(self) -> bool:
        """Whether it predicts surface normals, too."""

    @abstractmethod
    def inference(self, inputs: Tensor, batch_img_metas: object = None) -> Tensor:
        """Maps (B, C, H, W) of images of one size, as the data preprocessor gives them."""

    @abstractmethod
    def _prepare(self, rgb: Tensor) -> Tensor:
        """An image of `predict_maps`, as `inference` takes it, on the model's device."""

    @torch.no_grad()
    def predict(
        self,
        inputs: Sequence[Tensor],
        data_samples: list[SegDataSample] | None = None,
    ) -> list[SegDataSample]:
        """A map of every image at its original size.

        Args:
            inputs: (B, 3, H, W), or B images (3, H, W) of any sizes, as the data preprocessor gives
                them.
            data_samples: Their ``ori_shape`` is the output size; without it, the image's own.

        Returns:
            The samples with ``pred_depth_map`` (1, H_o, W_o) float32 and, of a model with normals,
            ``pred_normal_map`` (3, H_o, W_o). Their ``depth_kind`` says what depth is: see
            `predicts`.

        Raises:
            ValueError: An image is smaller than one patch, or its depth is no number.
        """
        samples = [SegDataSample() for _ in inputs] if data_samples is None else data_samples
        finite: dict[int, Tensor] = {}
        for indices in places_by(image.shape for image in inputs).values():
            maps = self.inference(torch.stack([inputs[i] for i in indices]))
            flags = maps.isfinite().flatten(1).all(1)
            for i, found, flag in zip(indices, maps, flags, strict=True):
                finite[i] = flag
                size = tuple(samples[i].metainfo.get('ori_shape', found.shape[-2:])[:2])
                if size != found.shape[-2:]:
                    found = interpolate(found[None], size=size, mode='bilinear')[0]
                found = mirrored_maps(found, flipped_axes(samples[i]))
                samples[i].set_data(dict(pred_depth_map=PixelData(data=found[:1])))
                if self.has_normals:
                    normals = normalize(found[1:], dim=0)
                    samples[i].set_data(dict(pred_normal_map=PixelData(data=normals)))
                samples[i].set_metainfo(dict(depth_kind=self.predicts))
        check_finite([finite[i] for i in range(len(samples))], samples, self.precision)
        return samples

    @torch.no_grad()
    def predict_maps(self, images: Tensor | Sequence[Tensor]) -> list[Tensor]:
        """The map of RGB images as they are, resized and normalised here.

        Args:
            images: (B, 3, H, W), or B tensors (3, H, W) of any sizes, uint8 or float in [0, 1].

        Returns:
            (C, H, W) float32 each, of the image's own size.

        Raises:
            ValueError: An image has another shape or type, or is smaller than one patch.
        """
        sizes = [tuple(image.shape[-2:]) for image in images]
        inputs = [self._prepare(image) for image in images]
        samples = [SegDataSample(metainfo=dict(ori_shape=size)) for size in sizes]
        if self.training:
            self.eval()
        results = self.predict(inputs, samples)
        names = ('pred_depth_map', 'pred_normal_map')[: 1 + self.has_normals]
        return [torch.cat([result.get(name).data for name in names]) for result in results]

    def predict_depth(self, images: Tensor | Sequence[Tensor]) -> list[Tensor]:
        """Depth alone, (H, W) float32 each: metres, or inverse depth; see `predict_maps`."""
        return [found[0] for found in self.predict_maps(images)]


def mirrored_maps(maps: Tensor, axes: Sequence[int]) -> Tensor:
    """Maps (..., C, H, W) of what is mirrored along axes -1 (left and right) or -2."""
    maps = maps.flip(tuple(axes))
    for axis in axes if maps.shape[-3] > 1 else ():
        maps = maps.clone()
        maps[..., -axis, :, :] *= -1  # x is channel 1, y is 2
    return maps

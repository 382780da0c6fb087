"""What every model of depth answers, however it is made.

Shapes: B images (3, H, W); a depth map is (1, H, W).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import torch
from mmengine.structures import PixelData
from mmseg.models import DepthEstimator
from mmseg.structures import SegDataSample
from torch import Tensor
from torch.nn.functional import interpolate

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

    @abstractmethod
    def inference(self, inputs: Tensor, batch_img_metas: object = None) -> Tensor:
        """Depth (B, 1, H, W) of images of one size, as the data preprocessor gives them."""

    @abstractmethod
    def _prepare(self, rgb: Tensor) -> Tensor:
        """An image of `predict_depth`, as `inference` takes it, on the model's device."""

    @torch.no_grad()
    def predict(
        self,
        inputs: Sequence[Tensor],
        data_samples: list[SegDataSample] | None = None,
    ) -> list[SegDataSample]:
        """Depth of every image at its original size.

        Args:
            inputs: (B, 3, H, W), or B images (3, H, W) of any sizes, as the data preprocessor gives
                them.
            data_samples: Their ``ori_shape`` is the output size; without it, the image's own.

        Returns:
            The samples with ``pred_depth_map`` (1, H_o, W_o) float32. Their ``depth_kind`` says
            what it is: see `predicts`.

        Raises:
            ValueError: An image is smaller than one patch, or its depth is no number.
        """
        samples = [SegDataSample() for _ in inputs] if data_samples is None else data_samples
        for indices in places_by(image.shape for image in inputs).values():
            depths = self.inference(torch.stack([inputs[i] for i in indices]))
            finite = depths.isfinite().flatten(1).all(1)
            check_finite(finite, [samples[i] for i in indices], self.precision)
            for i, depth in zip(indices, depths, strict=True):
                size = tuple(samples[i].metainfo.get('ori_shape', depth.shape[-2:])[:2])
                if size != depth.shape[-2:]:
                    depth = interpolate(depth[None], size=size, mode='bilinear')[0]
                data = depth.flip(flipped_axes(samples[i]))
                samples[i].set_data(dict(pred_depth_map=PixelData(data=data)))
                samples[i].set_metainfo(dict(depth_kind=self.predicts))
        return samples

    @torch.no_grad()
    def predict_depth(self, images: Tensor | Sequence[Tensor]) -> list[Tensor]:
        """Depth of RGB images as they are, resized and normalised here.

        Args:
            images: (B, 3, H, W), or B tensors (3, H, W) of any sizes, uint8 or float in [0, 1].

        Returns:
            (H, W) float32 each, of the image's own size: metres, or inverse depth.

        Raises:
            ValueError: An image has another shape or type, or is smaller than one patch.
        """
        sizes = [tuple(image.shape[-2:]) for image in images]
        inputs = [self._prepare(image) for image in images]
        samples = [SegDataSample(metainfo=dict(ori_shape=size)) for size in sizes]
        results = self.eval().predict(inputs, samples)
        return [result.pred_depth_map.data[0] for result in results]

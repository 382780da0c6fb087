"""Images of any mixture of sizes, normalised and left at their sizes."""

from __future__ import annotations

from mmengine.model import BaseDataPreprocessor
from mmseg.models import SegDataPreProcessor

from mmseg_siglip.registry import MODELS


@MODELS.register_module()
class ImageListPreProcessor(SegDataPreProcessor):
    """MMSeg's normalisation, without stacking at test time.

    MMSeg's own asks for images of one size, or pads them to one; windows need neither. Copies to a
    GPU overlap with its work, if the loader's memory is page-locked.
    """

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self._non_blocking = True

    def forward(self, data: dict, training: bool = False) -> dict:
        """As in MMSeg, but at test time ``inputs`` is a list of (3, H, W) float32."""
        if training:
            return super().forward(data, training)
        parts = [
            super(ImageListPreProcessor, self).forward(dict(inputs=[image]))
            for image in data['inputs']
        ]
        samples = self.cast_data(data.get('data_samples'))
        return dict(inputs=[part['inputs'][0] for part in parts], data_samples=samples)


@MODELS.register_module()
class UnitImagePreProcessor(BaseDataPreprocessor):
    """Images as RGB in [0, 1], each at its own size, in training and tests alike.

    For models of several encoders, each of which normalises for itself.

    Args:
        bgr_to_rgb: Whether images come as BGR, as MMSeg's pipelines load them.
    """

    def __init__(self, *, bgr_to_rgb: bool = True, non_blocking: bool = False) -> None:
        super().__init__(non_blocking)
        self.bgr_to_rgb = bgr_to_rgb

    def forward(self, data: dict, training: bool = False) -> dict:
        """``inputs``: uint8 (3, H, W) each, or floats in 0..255, to a list of float32."""
        data = self.cast_data(data)
        images = [image.float() / 255 for image in data['inputs']]
        images = [image.flip(0) if self.bgr_to_rgb else image for image in images]
        return dict(inputs=images, data_samples=data.get('data_samples'))

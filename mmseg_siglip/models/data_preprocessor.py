"""Images of any mixture of sizes, normalised and left at their sizes."""

from __future__ import annotations

from mmseg.models import SegDataPreProcessor

from mmseg_siglip.registry import MODELS


@MODELS.register_module()
class ImageListPreProcessor(SegDataPreProcessor):
    """MMSeg's normalisation, without stacking at test time.

    MMSeg's own asks for images of one size, or pads them to one; windows need neither.
    """

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

"""A whole model of depth as it was published: transformers' class, prepared for as there.

Shapes: B images of (H, W) pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace

import torch
from torch import Tensor, nn
from transformers import AutoImageProcessor, PretrainedConfig, PreTrainedModel
from transformers.image_processing_utils import BaseImageProcessor
from transformers.utils import ModelOutput

from mmseg_siglip.models.backbones.transformers_backbone import describe_model
from mmseg_siglip.models.compiled import compilable
from mmseg_siglip.weights.source import Source
from mmseg_siglip.weights.state import read_tensors
from mmseg_siglip.weights.transformers_model import load_model, load_part

NO_PROCESSOR = 'expected an image processor beside the weights, found none that loads'
PREDICTS = ('depth', 'inverse')
Seen = ModelOutput | SimpleNamespace
"""What a model gives: ``predicted_depth`` and more."""


@dataclass(frozen=True)
class Parts:
    """What a model is made of.

    Attributes:
        config: transformers' configuration.
        state: The weights of a file, by names that transformers knows; None where it reads them.
        processor: transformers' image processor.
    """

    config: PretrainedConfig
    state: dict[str, Tensor] | None
    processor: BaseImageProcessor

    @classmethod
    def of_transformers(cls, source: Source, model_types: tuple[str, ...]) -> Parts:
        """Those of a folder, a Hub id, or a weight file in a folder.

        Raises:
            ValueError: Configuration or image processor is not there.
        """
        place, revision = str(source.folder or source.name), source.revision
        config = describe_model(place, model_types, revision=revision)
        processor = load_part(
            AutoImageProcessor, place, NO_PROCESSOR, revision=revision, backend='torchvision'
        )
        return cls(config, read_tensors(source.path) if source.is_file else None, processor)


class PublishedDepth(nn.Module):
    """A family of depth models; registered in ``DEPTH_MODELS``, one file each.

    Sizes, pixel statistics and the way back to the image's own size are those of transformers'
    image processor: of the folder, or of a release's file that of the folder which transformers
    converted it to.

    Args:
        source: A transformers folder, a Hub id, a weight file in such a folder, or a release's own
            file where the family reads one.
        parts: What it is made of, where that is no affair of transformers' files.

    Raises:
        ValueError: The checkpoint is of another kind, or its weights do not fit.

    Attributes:
        model_types: transformers' names of the kinds of model that it takes.
        kind: transformers' class.
        options: What else the constructor takes.
        releases: What it reads beside transformers' layout, in words.
        predicts: ``depth``, metres, or ``inverse``: inverse depth up to scale and shift.
        has_normals: Whether it sees surface normals, too.
    """

    model_types: tuple[str, ...]
    kind: type[PreTrainedModel]
    options: tuple[str, ...] = ()
    releases: str = ''
    predicts: str
    has_normals = False

    def __init__(self, source: Source, parts: Parts | None = None) -> None:
        super().__init__()
        parts = parts or Parts.of_transformers(source, self.model_types)
        self.model = load_model(
            source.name, parts.config, kind=self.kind, state=parts.state, revision=source.revision
        )
        self.processor = parts.processor
        self.eval()

    @classmethod
    def recognises(cls, source: Source) -> bool:
        """Whether a checkpoint is of this family, by its contents."""
        return source.model_type in cls.model_types

    def init_weights(self) -> None:
        """Do nothing: weights were set at construction, see `VisionLanguageBackbone`."""

    def forward(self, images: Tensor) -> Tensor:
        """What the model sees in RGB images (B, 3, H, W) uint8.

        Returns:
            (B, 1, H, W) float32, depth or inverse depth; of a model with normals (B, 4, H, W), see
            `DepthModel`.
        """
        size = tuple(images.shape[-2:])
        batch = self.processor(images=list(images), return_tensors='pt', device=images.device)
        outputs = self.run(batch['pixel_values'])
        outputs.predicted_depth = outputs.predicted_depth.float()
        # By position: of ZoeDepth it is called source_sizes.
        found = self.processor.post_process_depth_estimation(outputs, [size] * len(images))
        depth = torch.stack([part['predicted_depth'].reshape(1, *size) for part in found])
        return torch.cat([depth, self.normals_of(outputs, size)], dim=1)

    def normals_of(self, outputs: Seen, size: tuple[int, int]) -> Tensor:
        """Surface normals (B, 3, H, W) of that size, or none, (B, 0, H, W)."""
        return outputs.predicted_depth.new_zeros(len(outputs.predicted_depth), 0, *size)

    def run(self, pixels: Tensor) -> Seen:
        """transformers' output for images as the processor gives them."""
        return self.compute(pixels)

    @compilable
    def compute(self, pixels: Tensor) -> Seen:
        """The part of `run` that `torch.compile` may have, anew for images of another size."""
        return self.model(pixel_values=pixels)

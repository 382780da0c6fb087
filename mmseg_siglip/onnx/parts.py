"""What of a model becomes a graph: modules of normalised images, and what stays outside.

Shapes: B images (3, H, W), whole patches of side p, grid (h, w), Q words, D joint channels.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from mmseg_siglip.models.backbones.trunk import method_name
from mmseg_siglip.models.segmentors import (
    CATSegSegmentor,
    SCLIPSegmentor,
    SigLIPDepthEstimator,
)
from mmseg_siglip.models.segmentors.seen import meet_words
from mmseg_siglip.onnx.graph import WORDS
from mmseg_siglip.vlm.tower import VisionTower


class Part(nn.Module):
    """A part of a model that a graph is written of.

    Args:
        model: The model, on the CPU, in float32.

    Attributes:
        kind: See `GraphFacts`.
        outputs: Names of what `forward` gives, in order.
        batched: Whether it takes any number of images, or one.
        fixed: (H, W) that it is for where no other is asked for; None, all sizes.
        window: (H, W) of the windows that its model cuts images into; None, it cuts none.
        learning: Whether it is traced as in training, which cuts nothing into chunks.
        keeps: Arguments of the model that stay outside of the graph.

    Raises:
        ValueError: The model has what no graph can hold.
    """

    kind: ClassVar[str]
    outputs: ClassVar[tuple[str, ...]]
    batched: ClassVar[bool] = True
    learning: ClassVar[bool] = False
    keeps: ClassVar[tuple[str, ...]] = ()
    fixed: tuple[int, int] | None = None
    window: tuple[int, int] | None = None

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    @abstractmethod
    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """(B, 3, H, W), normalised, to `outputs`."""

    @property
    @abstractmethod
    def channels(self) -> int:
        """Of the first output."""

    @property
    def classes(self) -> tuple[tuple[str, ...], ...]:
        """Those of each class."""
        return ()

    @property
    def own(self) -> dict[str, Any]:
        """See `GraphFacts`."""
        return {}

    @property
    def statistics(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation of pixels in 0..255."""
        return tuple(self.model.backbone.mean), tuple(self.model.backbone.std)

    @property
    def patch(self) -> int:
        return self.model.backbone.patch_size

    @property
    def native(self) -> tuple[int, int]:
        return self.model.backbone.image_size

    def outside(self, description: Mapping[str, Any]) -> dict[str, Any]:
        """What stays outside of a model's configuration."""
        return {name: description[name] for name in self.keeps if name in description}


class DensePart(Part):
    """Patch features (B, D, h, w) of a training-free segmenter, not normalised, and their cosines
    (B, Q, h, w) with its words."""

    kind, outputs = 'dense', ('features', 'cosines')
    keeps = (
        *('prob_thd', 'area_thd', 'background_index', 'postprocessor', 'label_steps'),
        *('test_cfg', 'data_preprocessor'),
    )

    def __init__(self, model: SCLIPSegmentor) -> None:
        super().__init__(model)
        method, name = model.method, method_name(model.method)
        for what, there in {
            'that sees one window at a time': method.scope != 'window' or method.prepares,
            'without regions': method.uses_regions,
            'that gives features': method.gives == 'cosines' or method.scores,
            'without refiners': len(method.refiners) > 0,
        }.items():
            if there:
                raise ValueError(f'expected a dense method {what} to export, found {name!r}')
        for name in ('score_steps', 'upsampler', 'proposer'):
            held = getattr(model, name)
            if held is not None and (name != 'score_steps' or len(held)):
                raise ValueError(f'expected a segmenter without {name} to export')
        if model.test_cfg['mode'] == 'slide':
            self.window = tuple(model.test_cfg['crop_size'])
        self.register_buffer(WORDS, model.text.clone())

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features = self.model.encode(images)
        normalise = self.model.method.normalise
        cosines, _ = meet_words([features], self.get_buffer(WORDS), normalise=normalise, keep=False)
        return features, cosines

    @property
    def channels(self) -> int:
        return self.model.backbone.embed_dim

    @property
    def classes(self) -> tuple[tuple[str, ...], ...]:
        return self.model.vocabulary.classes

    @property
    def own(self) -> dict[str, Any]:
        model = self.model
        return dict(
            normalise=model.method.normalise,
            logit_scale=model.logit_scale,
            background=model.vocabulary.background_index,
        )


class CATSegPart(Part):
    """Logits (1, T, s*h, s*w) of a CAT-Seg, of one view as its encoder gets it."""

    kind, outputs, batched, learning = 'cat_seg', ('logits',), False, True
    keeps = (
        *('synonyms', 'encoder_size', 'interpolation', 'antialias'),
        *('test_cfg', 'data_preprocessor'),
    )

    def __init__(self, model: CATSegSegmentor) -> None:
        super().__init__(model)
        cfg = model.test_cfg
        view = cfg['image_size'] if cfg['mode'] == 'whole' else None
        self.fixed = tuple(model.encoder_size or view or cfg['crop_size'])
        self.register_buffer(WORDS, model.text.clone())

    def forward(self, images: Tensor) -> tuple[Tensor]:
        limit = self.model.test_cfg['max_classes']
        return (self.model.logits(images, self.get_buffer(WORDS), max_classes=limit),)

    @property
    def channels(self) -> int:
        return len(self.get_buffer(WORDS))

    @property
    def classes(self) -> tuple[tuple[str, ...], ...]:
        return self.model.vocabulary.classes


class DepthPart(Part):
    """Maps (B, C, H, W) of a DPT decoder: depth, and normals where there are any."""

    kind, outputs = 'depth', ('maps',)
    keeps = ('image_size', 'test_cfg', 'data_preprocessor')

    def forward(self, images: Tensor) -> tuple[Tensor]:
        taps = self.model.extract_feat(images)
        return (torch.cat([head(taps) for head in self.model.heads], dim=1),)

    @property
    def channels(self) -> int:
        return 4 if self.model.has_normals else 1

    @property
    def own(self) -> dict[str, Any]:
        return dict(predicts=self.model.predicts)


class TowerPart(Part):
    """Tokens (B, N, C) of a vision tower."""

    kind, outputs = 'tower', ('tokens',)

    def __init__(self, model: VisionTower) -> None:
        super().__init__(model)
        if len(model.scales) > 1:
            raise ValueError(f'expected a tower of one scale to export, found {model.scales}')

    def forward(self, images: Tensor) -> tuple[Tensor]:
        return (self.model(images),)

    @property
    def channels(self) -> int:
        return self.model.hidden_size

    @property
    def statistics(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        processor = self.model.image_processor
        return tuple(
            tuple(255 * value for value in values)
            for values in (processor.image_mean, processor.image_std)
        )

    @property
    def patch(self) -> int:
        return self.model.config.patch_size

    @property
    def native(self) -> tuple[int, int]:
        return self.model.image_size


PARTS: dict[type[nn.Module], type[Part]] = {
    SCLIPSegmentor: DensePart,
    CATSegSegmentor: CATSegPart,
    SigLIPDepthEstimator: DepthPart,
    VisionTower: TowerPart,
}
"""What is exported of which model."""


def graph_part(model: nn.Module) -> Part:
    """The part of a model that becomes a graph.

    Raises:
        ValueError: None does, or not of this one.
    """
    for kind in type(model).__mro__:
        if kind in PARTS:
            return PARTS[kind](model)
    names = ', '.join(kind.__name__ for kind in PARTS)
    raise ValueError(f'expected a model of {names} to export, found a {type(model).__name__}')

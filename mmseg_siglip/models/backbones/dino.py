"""DINO's image sides: those of the make of transformers' DINOv2 with registers, and loading them.

Shapes: B images, P = CLS and registers, N = P + h*w tokens, C channels.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mmseg_siglip.models.adapters.dinov3 import (
    PERIODS,
    dinov3_config,
    to_transformers_dinov3,
)
from mmseg_siglip.models.backbones.base import VisionLanguageBackbone
from mmseg_siglip.models.backbones.block import merge_heads, split_heads
from mmseg_siglip.models.backbones.position import resize_position
from mmseg_siglip.models.backbones.tokens import Tokens
from mmseg_siglip.models.backbones.towers import Tower
from mmseg_siglip.models.backbones.transformers_backbone import Described, describe_model
from mmseg_siglip.models.backbones.trunk import Method
from mmseg_siglip.weights.source import Source
from mmseg_siglip.weights.transformers_model import build_model, load_model

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and standard deviation of pixels in 0..1."""


class DinoBlock:
    """A `Block` over a layer of transformers' DINOv2, its layer scales included."""

    def __init__(self, layer: nn.Module) -> None:
        self.layer = layer

    def norm(self, x: Tensor) -> Tensor:
        return self.layer.norm1(x)

    def qkv(self, u: Tensor, grid: object = None) -> tuple[Tensor, Tensor, Tensor]:
        attention = self.layer.attention.attention
        projections = (attention.query, attention.key, attention.value)
        return tuple(split_heads(part(u), attention.num_attention_heads) for part in projections)

    def out(self, y: Tensor) -> Tensor:
        return self.layer.layer_scale1(self.layer.attention.output.dense(merge_heads(y)))

    def ffn(self, x: Tensor) -> Tensor:
        return self.layer.layer_scale2(self.layer.mlp(self.layer.norm2(x)))


class DinoVision(VisionLanguageBackbone):
    """An encoder that compares a patch with words as it leaves the trunk.

    Attributes:
        position_mode: How position embeddings are resampled, with antialias; see `resize_position`.
    """

    readouts = ('raw',)
    position_mode = 'bicubic'

    @property
    @abstractmethod
    def vision(self) -> nn.Module:
        """transformers' model: ``embeddings``, ``encoder.layer`` and ``layernorm``."""

    def blocks(self) -> list[DinoBlock]:
        return [DinoBlock(layer) for layer in self.vision.encoder.layer]

    def embed(self, images: Tensor, grid: tuple[int, int]) -> Tensor:
        part = self.vision.embeddings
        x = part.patch_embeddings.projection(images).flatten(2).transpose(1, 2)
        cls_position, position = part.position_embeddings[0].tensor_split([1])
        resampling = dict(mode=self.position_mode, antialias=True)
        x = x + resize_position(position, self.native_grid, grid, **resampling)
        prefix = torch.cat([part.cls_token + cls_position, part.register_tokens], dim=1)
        return torch.cat([prefix.expand(len(x), -1, -1), x], dim=1)

    def norm(self, x: Tensor) -> Tensor:
        return self.vision.layernorm(x)

    def project(self, tokens: Tokens, *, readout: str | None = None) -> Tensor:
        self.check_readout(readout or self.readouts[0])
        return tokens.replace(self.norm(tokens.x)).map

    def unread(self, method: Method, *, readout: str | None = None) -> list[nn.Module]:
        if method.pools:
            return []
        layer = self.vision.encoder.layer[-1]
        attention = layer.attention.attention
        projections = dict(q=attention.query, k=attention.key, v=attention.value)
        parts = [part for name, part in projections.items() if name not in method.reads]
        return parts if method.ffn else [*parts, layer.norm2, layer.mlp, layer.layer_scale2]

    def summary(self, x: Tensor) -> Tensor:
        return self.norm(x[:, 0])

    def pool(self, x: Tensor) -> Tensor:
        return self.summary(x)

    def vision_parts(
        self, blocks: int, *, norm: bool, pooling: bool
    ) -> list[nn.Module | nn.Parameter]:
        vision = self.vision
        part = vision.embeddings
        parts = [part.patch_embeddings, part.cls_token, part.register_tokens]
        parts += [part.position_embeddings, *vision.encoder.layer[:blocks]]
        return parts + ([vision.layernorm] if norm or pooling else [])

    def pooling_parts(self) -> list[nn.Module]:
        return []

    def drop_pooling(self) -> None:
        """There is none to drop."""

    def vision_layers(self, where: str) -> Tower:
        """The tower of `blocks`, which lie there."""
        attention = dict(q_proj='query', k_proj='key', v_proj='value')
        matrices = {name: f'attention.attention.{part}' for name, part in attention.items()}
        swiglu = self.vision.config.use_swiglu_ffn
        mlp = ('weights_in', 'weights_out') if swiglu else ('fc1', 'fc2')
        matrices |= {name: f'mlp.{name}' for name in mlp} | dict(out_proj='attention.output.dense')
        query_value = (matrices['q_proj'], matrices['v_proj'])
        return Tower(where, matrices, ('q_proj', 'v_proj'), query_value=query_value)


def load_dino(source: Described, kind: str) -> nn.Module:
    """A vision model of transformers' alone, in float32.

    Args:
        source: A folder, a Hub id, DINOv3's released file, or a mapping (with its `model_type`) for
            random weights.
        kind: Its `model_type`.

    Raises:
        ValueError: The checkpoint is of another kind, or lacks weights.
    """
    held = None if isinstance(source, Mapping) else Source.open(source)
    if held is not None and kind == 'dinov3_vit' and PERIODS in held.tensors:
        try:
            config = describe_model(dinov3_config(held.tensors), (kind,))
            state = to_transformers_dinov3(held.tensors)
        except ValueError as error:
            raise ValueError(f'{held}: {error}') from error
        return load_model(held.name, config, state=state)
    config = describe_model(source, (kind,))
    if isinstance(source, Mapping):
        return build_model(config)
    return load_model(source, config)

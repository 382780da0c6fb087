"""Projectors from an encoder to a language model, of any number of layers.

LLaVA's ``identity`` has no layer, ``linear`` one, ``mlpNx_ACTIVATION`` N with the activation
between each two. Transformers' LLaVA has two, and its configuration names their activation; that of
another number of layers has LLaVA's word in that place, of which stock transformers says that it
knows no such activation.

Shapes: N tokens, C channels of the encoder, D of the language model.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from torch import Tensor, nn
from transformers import PretrainedConfig
from transformers.activations import ACT2FN
from transformers.models.llava.modeling_llava import LlavaMultiModalProjector

STOCK_LAYERS = 2
MOST_LAYERS = 16
_MLP = re.compile(r'mlp([1-9]\d?)x_(\w+)')


class ProjectorType(NamedTuple):
    """How many layers, and the activation between them."""

    num_layers: int
    activation: str

    @classmethod
    def parse(cls, name: str) -> ProjectorType:
        """Of LLaVA's word.

        Raises:
            ValueError: It is none.
        """
        if name == 'identity':
            return cls(0, 'gelu')
        if name == 'linear':
            return cls(1, 'gelu')
        match = _MLP.fullmatch(name) if isinstance(name, str) else None
        if match is None or match[2] not in ACT2FN or int(match[1]) > MOST_LAYERS:
            raise ValueError(
                "projector: expected 'mlp2x_gelu' or another number of layers (up to "
                f"{MOST_LAYERS}) and activation of transformers, 'linear' or 'identity', found "
                f'{name!r}'
            )
        return cls(int(match[1]), match[2])

    @classmethod
    def of(cls, config: PretrainedConfig) -> ProjectorType:
        """Of a LLaVA configuration.

        Raises:
            ValueError: It has neither an activation nor one of LLaVA's words.
        """
        name = config.projector_hidden_act
        return cls(STOCK_LAYERS, name) if name in ACT2FN else cls.parse(name)

    @property
    def name(self) -> str:
        """LLaVA's word."""
        return f'mlp{self.num_layers}x_{self.activation}' if self.num_layers else 'identity'

    @property
    def in_config(self) -> str:
        """``projector_hidden_act`` of a configuration."""
        return self.activation if self.num_layers == STOCK_LAYERS else self.name


class LinearLayers(nn.Module):
    """``linear_1`` and so on with an activation between them: (..., C) to (..., D)."""

    def __init__(self, widths: tuple[int, int], kind: ProjectorType, *, bias: bool) -> None:
        super().__init__()
        self.num_layers, self.act = kind.num_layers, ACT2FN[kind.activation]
        for i in range(kind.num_layers):
            layer = nn.Linear(widths[i > 0], widths[1], bias=bias)
            self.add_module(f'linear_{i + 1}', layer)

    def forward(self, x: Tensor) -> Tensor:
        for i in range(self.num_layers):
            x = self.get_submodule(f'linear_{i + 1}')(self.act(x) if i else x)
        return x


def make_projector(config: PretrainedConfig) -> nn.Module:
    """The projector of a LLaVA configuration, transformers' own where it has two layers.

    Raises:
        ValueError: It has no layer, and the widths differ.
    """
    kind = ProjectorType.of(config)
    if kind.num_layers == STOCK_LAYERS:
        return LlavaMultiModalProjector(config)
    layers = config.vision_feature_layer
    channels = config.vision_config.hidden_size * (1 if isinstance(layers, int) else len(layers))
    width = config.text_config.hidden_size
    if not kind.num_layers and channels != width:
        raise ValueError(
            f'projector: expected a layer from {channels} channels of the encoder to {width} of '
            "the language model, found 'identity'"
        )
    return LinearLayers((channels, width), kind, bias=config.multimodal_projector_bias)

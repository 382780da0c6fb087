"""A SigLIP whose text tower reads longer padding, with equal scores.

SigLIP pools the last of its padded tokens, and padding is read like words: a text tower of few
positions is another function of the same prompt when it is given more padding, and no further
position embeddings make it the same. transformers' zero-shot pipeline pads to 64 whatever the model
has. Here the tower is made twice as wide: what every token holds, it holds twice, and the padding
between the prompt and the last token once with either sign. Attention sees by the difference, in
channels that each head gains, which tokens to leave out.
"""

from __future__ import annotations

import copy
import math
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import SiglipModel

from mmseg_siglip.models.backbones.siglip import SigLIPBackbone

POSITIONS = 64
"""What transformers' zero-shot pipeline pads words to."""
SHARE = 200.0
"""By so much are the scores of padding that is left out lower: its weight is 0 in float32."""
LARGE = 100.0
"""What padding that is left out holds, against numbers of about 1."""


def lengthen_text(source: str, out: str | Path) -> None:
    """Write a SigLIP as a folder of `POSITIONS` text positions, whose scores are those of `source`.

    Args:
        source: Folder, or name of a checkpoint that ships along.
        out: The folder to write.

    Raises:
        ValueError: `source` is no SigLIP of fixed resolution, has no tokenizer, or has as many
            positions.
    """
    encoder = SigLIPBackbone(source)
    if not isinstance(encoder.model, SiglipModel) or encoder.tokenizer is None:
        raise ValueError(f'{source}: expected a SigLIP of fixed resolution with its tokenizer')
    longest = encoder.context_length - 1
    encoder.model = with_longer_text(encoder.model, POSITIONS)
    encoder.tokenizer.model_max_length = longest
    encoder.save_pretrained(out)


@torch.no_grad()
def with_longer_text(model: SiglipModel, positions: int) -> SiglipModel:
    """A model that gives for prompts padded to `positions` what `model` gives for those padded to
    its own number of them, for all that are at least one token shorter than that.

    Args:
        model: Of fixed resolution.
        positions: More than it has.

    Raises:
        ValueError: There are not more.
    """
    old = model.config.text_config
    if old.max_position_embeddings >= positions:
        raise ValueError(
            f'expected fewer than {positions} text positions, found {old.max_position_embeddings}'
        )
    config = copy.deepcopy(model.config)
    config.text_config.hidden_size *= 2
    config.text_config.max_position_embeddings = positions
    longer = SiglipModel(config).to(dtype=model.dtype).eval()
    longer.vision_model.load_state_dict(model.vision_model.state_dict())
    longer.logit_scale.copy_(model.logit_scale)
    longer.logit_bias.copy_(model.logit_bias)
    _embed(model.text_model.embeddings, longer.text_model.embeddings, old.pad_token_id)
    layers = zip(model.text_model.encoder.layers, longer.text_model.encoder.layers, strict=True)
    for layer, wide in layers:
        _norm(layer.layer_norm1, wide.layer_norm1)
        _norm(layer.layer_norm2, wide.layer_norm2)
        _attention(layer.self_attn, wide.self_attn, layer.layer_norm1.weight)
        _read(layer.mlp.fc1, wide.mlp.fc1)
        wide.mlp.fc2.weight.copy_(twice(layer.mlp.fc2.weight))
        wide.mlp.fc2.bias.copy_(twice(layer.mlp.fc2.bias))
    _norm(model.text_model.final_layer_norm, longer.text_model.final_layer_norm)
    _read(model.text_model.head, longer.text_model.head)
    return longer


def twice(value: Tensor) -> Tensor:
    """Of (N, ...) (2N, ...)."""
    return torch.cat([value, value])


def _embed(own: nn.Module, wide: nn.Module, pad: int) -> None:
    words, places = own.token_embedding.weight, own.position_embedding.weight
    wide.token_embedding.weight.copy_(twice(words.T).T)
    left_out = torch.cat([LARGE - words[pad], -LARGE - words[pad]])
    wide.position_embedding.weight.copy_(left_out.expand_as(wide.position_embedding.weight))
    wide.position_embedding.weight[: len(places) - 1] = twice(places[:-1].T).T
    wide.position_embedding.weight[-1] = twice(places[-1])


def _norm(own: nn.LayerNorm, wide: nn.LayerNorm) -> None:
    wide.weight.copy_(twice(own.weight))
    wide.bias.copy_(twice(own.bias))


def _read(own: nn.Linear, wide: nn.Linear) -> None:
    """A layer that reads the first of what is held twice."""
    wide.weight.zero_()
    wide.weight[:, : own.in_features] = own.weight
    wide.bias.copy_(own.bias)


def _attention(own: nn.Module, wide: nn.Module, scale: Tensor) -> None:
    heads, width = own.num_heads, own.embed_dim
    spare = math.sqrt(SHARE * math.sqrt(wide.head_dim) / 2)
    for name, factor in (('q_proj', math.sqrt(2)), ('k_proj', 1), ('v_proj', 1)):
        source, target = getattr(own, name), getattr(wide, name)
        weight = target.weight.zero_().view(heads, 2, -1, 2 * width)
        bias = target.bias.zero_().view(heads, 2, -1)
        weight[:, 0, :, :width] = factor * source.weight.view(heads, -1, width)
        bias[:, 0] = factor * source.bias.view(heads, -1)
        if name == 'q_proj':
            bias[:, 1, 0] = -spare
        if name == 'k_proj':
            weight[:, 1, 0] = torch.cat([scale, -scale]) * spare / scale.square().sum()
    out = wide.out_proj.weight.zero_().view(2 * width, heads, 2, -1)
    out[:, :, 0] = twice(own.out_proj.weight).view(2 * width, heads, -1)
    wide.out_proj.bias.copy_(twice(own.out_proj.bias))

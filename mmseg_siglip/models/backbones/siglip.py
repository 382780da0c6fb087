"""SigLIP and SigLIP 2 (fixed resolution and NaFlex) on transformers' own modules.

Papers: https://arxiv.org/abs/2303.15343 (SigLIP), https://arxiv.org/abs/2502.14786 (SigLIP 2).
Shapes: B images, N = h*w tokens (SigLIP has no CLS), C channels, which is also D.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from open_clip.tokenizer import canonicalize_text
from torch import Tensor, nn
from torch.nn.functional import pixel_unshuffle
from transformers import AutoConfig, AutoImageProcessor, AutoModel, AutoTokenizer, PretrainedConfig

from mmseg_siglip.models.backbones.base import VisionLanguageBackbone
from mmseg_siglip.models.backbones.image_size import resolve_image_size
from mmseg_siglip.models.backbones.position import resize_position
from mmseg_siglip.models.dense.attention import (
    ATTENTIONS,
    DenseAttention,
    get_attention,
    merge_heads,
    run_block,
    split_heads,
)
from mmseg_siglip.registry import MODELS
from mmseg_siglip.weights.state import (
    load_strict,
    read_state_dict,
    refuse_missing_path,
)

ASSETS = Path(__file__).parents[2] / 'assets'
MODEL_TYPES = ('siglip', 'siglip2')
READOUTS = ('map', 'value', 'raw')
SITES = ('trunk', 'head')
OF_THE_FILE = ('_name_or_path', 'architectures', 'dtype', 'torch_dtype', 'transformers_version')


class TrunkBlock:
    """`attention.Block` over a transformers SigLIP encoder layer."""

    def __init__(self, layer: nn.Module) -> None:
        self.layer = layer

    def qkv(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        attention, u = self.layer.self_attn, self.layer.layer_norm1(x)
        projections = (attention.q_proj, attention.k_proj, attention.v_proj)
        return tuple(split_heads(project(u), attention.num_heads) for project in projections)

    def out(self, y: Tensor) -> Tensor:
        return self.layer.self_attn.out_proj(merge_heads(y))

    def ffn(self, x: Tensor) -> Tensor:
        return self.layer.mlp(self.layer.layer_norm2(x))


class HeadBlock:
    """`attention.Block` over the attention pooling head, applied to patches instead of the probe.

    With identity attention this is the head run on each patch as a sequence of one token: over
    one key the softmax is 1, so query, key and probe drop out.
    """

    def __init__(self, head: nn.Module) -> None:
        self.head = head

    def qkv(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        attention = self.head.attention
        qkv = nn.functional.linear(x, attention.in_proj_weight, attention.in_proj_bias)
        return tuple(split_heads(part, attention.num_heads) for part in qkv.chunk(3, dim=-1))

    def out(self, y: Tensor) -> Tensor:
        return self.head.attention.out_proj(merge_heads(y))

    def ffn(self, x: Tensor) -> Tensor:
        return self.head.mlp(self.head.layernorm(x))


@MODELS.register_module()
class SigLIPBackbone(VisionLanguageBackbone):
    """SigLIP or SigLIP 2 as a dense encoder.

    Args:
        pretrained: A transformers folder, a Hub id, the name of a checkpoint shipped with this
            package, or a bare weight file (``.safetensors``, MMEngine ``.pth``). None builds
            random weights from `config`.
        config: Folder, Hub id or mapping that describes the model, where `pretrained` does not: a
            mapping is a transformers configuration with its `model_type`. A weight file is
            described by the folder that it lies in unless told otherwise.
        tokenizer: Folder or Hub id of the tokenizer, where it is not beside the weights.
        attention: Default of `dense`.
        readout: How a patch of the trunk reaches the joint space: ``map``, the pooling head run
            on that patch alone (exact); ``value``, the head without its norm and MLP; ``raw``,
            the normed trunk token.
        site: Where the attention of `dense` goes: the ``trunk``'s last block, or the pooling
            ``head`` over its own queries and keys, the trunk left as it is.
        out_indices: See `VisionLanguageBackbone`.
        with_cp: See `VisionLanguageBackbone`.
        revision: Commit of a Hub id.

    Raises:
        ValueError: The checkpoint is of another kind, or lacks weights.
    """

    num_prefix = 0

    def __init__(
        self,
        pretrained: str | None = None,
        *,
        config: str | Mapping | None = None,
        tokenizer: str | None = None,
        attention: str = 'csa',
        readout: str = 'value',
        site: str = 'trunk',
        out_indices: Sequence[int] = (-1,),
        with_cp: bool = False,
        revision: str | None = None,
    ) -> None:
        super().__init__(out_indices=out_indices, with_cp=with_cp)
        if pretrained is None and config is None:
            raise ValueError('SigLIPBackbone: expected pretrained or config, found neither')
        pretrained, self.source = bundled(pretrained), bundled(config)
        if pretrained is not None and not Path(pretrained).is_file():
            if config is not None:
                raise ValueError(f'{pretrained}: brings its own configuration; drop config')
            self.model, self.source = load_model(pretrained, revision), pretrained
        else:
            self.source = self.source or str(Path(pretrained).parent)
            self.model = AutoModel.from_config(read_config(self.source), dtype=torch.float32)
            if pretrained is not None:
                load_strict(self.model, read_state_dict(pretrained), pretrained)
        self.config = self.model.config
        self.readout, self.site, self.attention = readout, site, attention
        self._check_dense(attention, readout, site)

        vision = self.config.vision_config
        self.naflex = self.config.model_type == 'siglip2'
        self.patch_size = vision.patch_size
        self.hidden_size = self.embed_dim = vision.hidden_size
        self.context_length = self.config.text_config.max_position_embeddings
        self.tokenizer, self.image_processor = self._load_processors(tokenizer, revision)
        self.image_size = resolve_image_size(self.image_processor, self.config)
        self.mean, self.std = self._statistics()
        self.eval()

    def _load_processors(self, tokenizer: str | None, revision: str | None):
        if isinstance(self.source, Mapping):
            return (AutoTokenizer.from_pretrained(tokenizer) if tokenizer else None), None
        try:
            return (
                AutoTokenizer.from_pretrained(tokenizer or self.source, revision=revision),
                AutoImageProcessor.from_pretrained(
                    self.source, revision=revision, backend='torchvision'
                ),
            )
        except (OSError, ValueError) as error:
            raise ValueError(
                f'{self.source}: expected tokenizer and preprocessor files beside the weights, '
                f'found none that load ({first_line(error)})'
            ) from error

    def _statistics(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        processor = self.image_processor
        if processor is None:
            return (127.5,) * 3, (127.5,) * 3
        return tuple(
            tuple(255 * value for value in values)
            for values in (processor.image_mean, processor.image_std)
        )

    @property
    def logit_scale(self) -> float:
        return self.model.logit_scale.exp().item()

    @property
    def logit_bias(self) -> float:
        return self.model.logit_bias.item()

    def blocks(self) -> list[TrunkBlock]:
        return [TrunkBlock(layer) for layer in self.model.vision_model.encoder.layers]

    def embed(self, images: Tensor, grid: tuple[int, int]) -> Tensor:
        embeddings, p = self.model.vision_model.embeddings, self.patch_size
        if self.naflex:
            # (B, 3*p*p, h, w), channels before pixels; the Linear expects pixels before channels.
            patches = pixel_unshuffle(images[..., : grid[0] * p, : grid[1] * p], p)
            patches = patches.unflatten(1, (3, p * p)).permute(0, 3, 4, 2, 1).flatten(3)
            x = embeddings.patch_embedding(patches.flatten(1, 2))
            resampling = dict(mode='bilinear', antialias=True)
        else:
            x = embeddings.patch_embedding(images).flatten(2).transpose(1, 2)
            resampling = dict(mode='bicubic')
        position = embeddings.position_embedding.weight
        return x + resize_position(position, self.native_grid, grid, **resampling)

    def dense(
        self,
        images: Tensor,
        *,
        attention: str | None = None,
        readout: str | None = None,
        site: str | None = None,
    ) -> Tensor:
        attention, readout = attention or self.attention, readout or self.readout
        site = site or self.site
        self._check_dense(attention, readout, site)
        method, vanilla = get_attention(attention), ATTENTIONS['vanilla']
        x, grid = self.trunk(images, method if site == 'trunk' else vanilla)
        mix = method if site == 'head' else ATTENTIONS['maskclip']
        return self.project(x, grid, readout=readout, mix=mix)

    def project(
        self,
        x: Tensor,
        grid: tuple[int, int],
        *,
        readout: str = 'value',
        mix: DenseAttention = ATTENTIONS['maskclip'],
    ) -> Tensor:
        """Tokens of the trunk (B, N, C) into the joint space (B, D, h, w), see `readout`.

        `mix` says how the pooling head mixes patches; by default not at all.
        """
        z = self.model.vision_model.post_layernorm(x)
        if readout != 'raw':
            head = DenseAttention(mix.mix, residual=False, ffn=readout == 'map')
            block = HeadBlock(self.model.vision_model.head)
            z = run_block(block, z, head, grid=grid, num_prefix=0)
        return self.to_map(z, grid)

    def unread(self, last: DenseAttention, *, readout: str = 'value') -> list[nn.Module]:
        vision = self.model.vision_model
        layer, head = vision.encoder.layers[-1], vision.head
        attention = layer.self_attn
        projections = dict(q=attention.q_proj, k=attention.k_proj, v=attention.v_proj)
        parts = [part for name, part in projections.items() if name not in last.reads]
        if not last.ffn:
            parts += [layer.layer_norm2, layer.mlp]
        return parts + dict(raw=[head], value=[head.layernorm, head.mlp], map=[])[readout]

    @staticmethod
    def _check_dense(attention: str, readout: str, site: str) -> None:
        get_attention(attention)
        for name, value, allowed in (('readout', readout, READOUTS), ('site', site, SITES)):
            if value not in allowed:
                raise ValueError(f'unknown {name} {value!r}; expected one of {", ".join(allowed)}')
        if readout == 'raw' and site == 'head':
            raise ValueError("readout 'raw' leaves the pooling head out, so site cannot be 'head'")

    def encode_image(self, images: Tensor) -> Tensor:
        x, _ = self.trunk(images, ATTENTIONS['vanilla'])
        vision = self.model.vision_model
        return vision.head(vision.post_layernorm(x))

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """Prompts to vectors (N, D), lower-cased and without punctuation as in training.

        The text tower pools its last token, so every prompt is padded to the full context.
        """
        ids, _ = self.tokenize(texts)
        return self.model.text_model(input_ids=ids).pooler_output

    def encode_text_tokens(self, texts: Sequence[str]) -> tuple[Tensor, Tensor, Tensor]:
        """Prompts to the text tower's tokens (N, L, C), which of them are no padding (N, L), and
        `encode_text`'s vectors (N, D)."""
        ids, real = self.tokenize(texts)
        output = self.model.text_model(input_ids=ids)
        return output.last_hidden_state, real, output.pooler_output

    def tokenize(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Token ids, padded on the right to the full context, and which are no padding: (N, L).

        Raises:
            ValueError: There is no tokenizer, or a prompt is too long.
        """
        if self.tokenizer is None:
            raise ValueError('SigLIPBackbone: expected a tokenizer to encode text, found none')
        texts = [canonicalize_text(text) for text in texts]
        for text, tokens in zip(texts, self.tokenizer(texts)['input_ids'], strict=True):
            if len(tokens) > self.context_length:
                raise ValueError(
                    f'expected a prompt of at most {self.context_length} tokens, '
                    f'found {len(tokens)}: {text!r}'
                )
        batch = self.tokenizer(
            texts,
            padding='max_length',
            padding_side='right',
            max_length=self.context_length,
            return_attention_mask=True,
            return_tensors='pt',
        )
        device = self.model.logit_scale.device
        return batch['input_ids'].to(device), batch['attention_mask'].to(device).bool()

    def text_parameters(self) -> dict[str, Tensor]:
        return self.model.text_model.state_dict()

    def text_settings(self) -> dict[str, Any]:
        config = self.config.text_config.to_dict()
        return {name: value for name, value in config.items() if name not in OF_THE_FILE}

    def tokenizer_state(self) -> dict[str, int]:
        return dict(sorted(self.tokenizer.get_vocab().items()))

    def save_pretrained(self, folder: str | Path) -> None:
        """Write a transformers checkpoint: configuration, safetensors, tokenizer, processor."""
        self.model.save_pretrained(folder)
        for part in (self.tokenizer, self.image_processor):
            if part is not None:
                part.save_pretrained(folder)


def bundled(source: str | Mapping | None) -> str | Mapping | None:
    """The folder of a checkpoint that ships with this package, or `source` unchanged."""
    if isinstance(source, str) and source.isidentifier() and (ASSETS / source).is_dir():
        return str(ASSETS / source)
    return source


def read_config(source: str | Mapping) -> PretrainedConfig:
    """A transformers SigLIP configuration.

    Raises:
        ValueError: `source` describes another kind of model.
    """
    if isinstance(source, Mapping):
        fields = dict(source)
        config = AutoConfig.for_model(fields.pop('model_type', None), **fields)
    else:
        try:
            config = AutoConfig.from_pretrained(source)
        except (OSError, ValueError) as error:
            raise ValueError(f'{source}: no SigLIP configuration ({first_line(error)})') from error
    if config.model_type not in MODEL_TYPES:
        raise ValueError(
            f'{source}: expected model_type {" or ".join(MODEL_TYPES)}, found {config.model_type!r}'
        )
    return config


def load_model(
    source: str,
    revision: str | None,
    *,
    config: PretrainedConfig | None = None,
    attention: str | None = None,
) -> nn.Module:
    """A transformers model with every weight of the checkpoint, in float32.

    Args:
        source: Folder or Hub id.
        revision: Commit of a Hub id.
        config: Of the model; a SigLIP's own by default.
        attention: transformers' name of an attention implementation; its choice by default.

    Raises:
        ValueError: The checkpoint is of another kind, or lacks weights.
    """
    refuse_missing_path(source)
    config = config or read_config(source)
    try:
        model, report = AutoModel.from_pretrained(
            source,
            config=config,
            revision=revision,
            dtype=torch.float32,
            attn_implementation=attention,
            output_loading_info=True,
        )
    except (OSError, RuntimeError, ValueError) as error:
        raise ValueError(f'{source}: weights do not load ({first_line(error)})') from error
    missing = sorted(report['missing_keys'])
    if missing:
        raise ValueError(
            f'{source}: expected all weights of a {config.model_type} model, '
            f'{len(missing)} are missing, first {missing[0]}'
        )
    return model


def first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__

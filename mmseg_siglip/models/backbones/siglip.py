"""SigLIP and SigLIP 2 (fixed resolution and NaFlex) on transformers' own modules.

Papers: https://arxiv.org/abs/2303.15343 (SigLIP), https://arxiv.org/abs/2502.14786 (SigLIP 2).
Shapes: B images, N = h*w tokens (SigLIP has no CLS), C channels, which is also D.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from open_clip.tokenizer import canonicalize_text
from torch import Tensor, nn
from torch.nn.functional import pixel_unshuffle
from transformers import AutoConfig, AutoImageProcessor, AutoModel, AutoTokenizer, PretrainedConfig

from mmseg_siglip.models.backbones.base import VisionLanguageBackbone
from mmseg_siglip.models.backbones.block import Mix, merge_heads, run_block, split_heads
from mmseg_siglip.models.backbones.image_size import resolve_image_size
from mmseg_siglip.models.backbones.position import resize_position
from mmseg_siglip.models.backbones.tokens import Tokens
from mmseg_siglip.models.backbones.towers import Tower
from mmseg_siglip.models.backbones.trunk import Method, Surroundings, Trunk
from mmseg_siglip.registry import MODELS
from mmseg_siglip.weights.source import Source, bundled
from mmseg_siglip.weights.state import load_strict
from mmseg_siglip.weights.transformers_model import first_line, load_model

MODEL_TYPES = ('siglip', 'siglip2')
READOUTS = ('map', 'value', 'raw')
SITES = ('trunk', 'head')
OF_THE_FILE = ('_name_or_path', 'architectures', 'dtype', 'torch_dtype', 'transformers_version')


class SigLIPBlock:
    """A `Block` over a transformers SigLIP encoder layer."""

    def __init__(self, layer: nn.Module) -> None:
        self.layer = layer

    def norm(self, x: Tensor) -> Tensor:
        return self.layer.layer_norm1(x)

    def qkv(self, u: Tensor, grid: object = None) -> tuple[Tensor, Tensor, Tensor]:
        attention = self.layer.self_attn
        projections = (attention.q_proj, attention.k_proj, attention.v_proj)
        return tuple(split_heads(project(u), attention.num_heads) for project in projections)

    def out(self, y: Tensor) -> Tensor:
        return self.layer.self_attn.out_proj(merge_heads(y))

    def ffn(self, x: Tensor) -> Tensor:
        return self.layer.mlp(self.layer.layer_norm2(x))


class HeadBlock:
    """A `Block` over the attention pooling head, applied to patches instead of the probe.

    With identity attention this is the head run on each patch as a sequence of one token: over
    one key the softmax is 1, so query, key and probe drop out.
    """

    def __init__(self, head: nn.Module) -> None:
        self.head = head

    def norm(self, x: Tensor) -> Tensor:
        return x

    def qkv(self, u: Tensor, grid: object = None) -> tuple[Tensor, Tensor, Tensor]:
        attention = self.head.attention
        qkv = nn.functional.linear(u, attention.in_proj_weight, attention.in_proj_bias)
        return tuple(split_heads(part, attention.num_heads) for part in qkv.chunk(3, dim=-1))

    def out(self, y: Tensor) -> Tensor:
        return self.head.attention.out_proj(merge_heads(y))

    def ffn(self, x: Tensor) -> Tensor:
        return self.head.mlp(self.head.layernorm(x))


def read_alone(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """The `Mix` that does not: each patch keeps its own value."""
    return v


def embed_patches(vision: nn.Module, images: Tensor, grid: tuple[int, int], native) -> Tensor:
    """(B, 3, H, W) through a SigLIP vision model's embeddings, positions resampled as transformers
    does: (B, h*w, C).

    Args:
        vision: transformers' vision model, of fixed resolution or NaFlex.
        images: H and W hold the whole patches of `grid`; what reaches beyond them is left out.
        grid: (h, w).
        native: The grid that the position embeddings are of.
    """
    embeddings, p = vision.embeddings, vision.config.patch_size
    if isinstance(embeddings.patch_embedding, nn.Linear):
        # (B, 3*p*p, h, w), channels before pixels; the Linear expects pixels before channels.
        patches = pixel_unshuffle(images[..., : grid[0] * p, : grid[1] * p], p)
        patches = patches.unflatten(1, (3, p * p)).permute(0, 3, 4, 2, 1).flatten(3)
        x = embeddings.patch_embedding(patches.flatten(1, 2))
        resampling = dict(mode='bilinear', antialias=True)
    else:
        x = embeddings.patch_embedding(images).flatten(2).transpose(1, 2)
        resampling = dict(mode='bicubic')
    return x + resize_position(embeddings.position_embedding.weight, native, grid, **resampling)


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
    readouts = READOUTS
    model_types = MODEL_TYPES

    def __init__(
        self,
        pretrained: str | Source | None = None,
        *,
        config: str | Mapping | None = None,
        tokenizer: str | None = None,
        attention: str | dict | Method = 'csa',
        readout: str = 'value',
        site: str = 'trunk',
        out_indices: Sequence[int] = (-1,),
        with_cp: bool = False,
        revision: str | None = None,
    ) -> None:
        super().__init__(attention=attention, out_indices=out_indices, with_cp=with_cp)
        if pretrained is None and config is None:
            raise ValueError('SigLIPBackbone: expected pretrained or config, found neither')
        self.source = bundled(config)
        self.model = self._build(pretrained, revision)
        self.config = self.model.config
        self.readout, self.site = readout, site
        self._check_dense(self.method, readout, site)

        vision = self.config.vision_config
        self.naflex = self.config.model_type == 'siglip2'
        self.patch_size = vision.patch_size
        self.hidden_size = self.embed_dim = vision.hidden_size
        self.text_width = self.config.text_config.hidden_size
        self.context_length = self.config.text_config.max_position_embeddings
        self.tokenizer, self.image_processor = self._load_processors(tokenizer, revision)
        self.image_size = resolve_image_size(self.image_processor, self.config)
        self.mean, self.std = self._statistics()
        self.eval()

    def _build(self, pretrained: str | Source | None, revision: str | None) -> nn.Module:
        """The model, and where its processors are looked for."""
        if pretrained is None:
            return AutoModel.from_config(read_config(self.source), dtype=torch.float32)
        source = Source.open(pretrained, revision=revision)
        if not source.is_file:
            if self.source is not None:
                raise ValueError(f'{source}: brings its own configuration; drop config')
            self.source = source.name
            return load_model(source.name, read_config(source.name), revision=revision)
        self.source = self.source or str(source.folder)
        model = AutoModel.from_config(read_config(self.source), dtype=torch.float32)
        load_strict(model, source.tensors, source.name)
        return model

    def _load_processors(self, tokenizer: str | None, revision: str | None):
        options = dict(revision=revision, trust_remote_code=False)
        if isinstance(self.source, Mapping):
            return (
                AutoTokenizer.from_pretrained(tokenizer, **options) if tokenizer else None
            ), None
        try:
            return (
                AutoTokenizer.from_pretrained(tokenizer or self.source, **options),
                AutoImageProcessor.from_pretrained(self.source, backend='torchvision', **options),
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

    @classmethod
    def recognises(cls, source: Source) -> bool:
        if source.is_file:
            return source.has('vision_model.head.probe')
        return source.model_type in cls.model_types

    def blocks(self) -> list[SigLIPBlock]:
        return [SigLIPBlock(layer) for layer in self.model.vision_model.encoder.layers]

    def embed(self, images: Tensor, grid: tuple[int, int]) -> Tensor:
        return embed_patches(self.model.vision_model, images, grid, self.native_grid)

    def norm(self, x: Tensor) -> Tensor:
        return self.model.vision_model.post_layernorm(x)

    def dense(
        self,
        images: Tensor,
        *,
        attention: str | dict | Method | None = None,
        readout: str | None = None,
        site: str | None = None,
        surroundings: Surroundings | None = None,
    ) -> Tensor:
        """See `VisionLanguageBackbone`; `site` as in the constructor."""
        method = self.method if attention is None else self.method_for(attention)
        readout, site = readout or self.readout, site or self.site
        self._check_dense(method, readout, site)
        if site == 'trunk':
            return super().dense(
                images, attention=method, readout=readout, surroundings=surroundings
            )
        trunk = Trunk(self, images, surroundings=surroundings)
        tokens = Tokens(trunk.output(-1), trunk.grid)
        mix = lambda q, k, v: method.mix(q, k, v, trunk)  # noqa: E731
        return self.project(tokens, readout=readout, mix=mix)

    def project(
        self, tokens: Tokens, *, readout: str | None = None, mix: Mix | None = None
    ) -> Tensor:
        readout = self.check_readout(readout or self.readout)
        z = self.norm(tokens.x)
        if readout != 'raw':
            block = HeadBlock(self.model.vision_model.head)
            z = run_block(
                block,
                z,
                mix or read_alone,
                grid=tokens.grid,
                residual=False,
                ffn=readout == 'map',
            )
        return tokens.replace(z).map

    def unread(self, method: Method, *, readout: str | None = None) -> list[nn.Module]:
        vision = self.model.vision_model
        layer, head = vision.encoder.layers[-1], vision.head
        attention = layer.self_attn
        projections = dict(q=attention.q_proj, k=attention.k_proj, v=attention.v_proj)
        parts = [part for name, part in projections.items() if name not in method.reads]
        if not method.ffn:
            parts += [layer.layer_norm2, layer.mlp]
        unused = dict(raw=[head], value=[head.layernorm, head.mlp], map=[])
        return parts + unused[readout or self.readout]

    def _check_dense(self, method: Method, readout: str, site: str) -> None:
        self.check_readout(readout)
        if site not in SITES:
            raise ValueError(f'unknown site {site!r}; expected one of {", ".join(SITES)}')
        if site == 'head':
            if readout == 'raw':
                raise ValueError(
                    "readout 'raw' leaves the pooling head out, so site cannot be 'head'"
                )
            if not method.only_mixes:
                raise ValueError(
                    f"site 'head': expected a method that only mixes tokens, found "
                    f'{type(method).__name__}, which works on the trunk'
                )

    def summary(self, x: Tensor) -> Tensor:
        return self.model.vision_model.head(self.norm(x))

    def pool(self, x: Tensor) -> Tensor:
        return self.summary(x)

    def vision_parts(
        self, blocks: int, *, norm: bool, pooling: bool
    ) -> list[nn.Module | nn.Parameter]:
        vision = self.model.vision_model
        parts = [vision.embeddings, *vision.encoder.layers[:blocks]]
        parts += [vision.post_layernorm] if norm or pooling else []
        return parts + ([vision.head] if pooling else [])

    def pooling_parts(self) -> list[nn.Module]:
        return [self.model.vision_model.head]

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
            ValueError: There is no tokenizer or text tower, or a prompt is too long.
        """
        self.require_text()
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

    def project_text(self, tokens: Tensor) -> Tensor:
        return self.model.text_model.head(tokens)

    def is_text(self, name: str) -> bool:
        return name.startswith('text_model.')

    def text_settings(self) -> dict[str, Any]:
        config = self.config.text_config.to_dict()
        return {name: value for name, value in config.items() if name not in OF_THE_FILE}

    def tokenizer_state(self) -> dict[str, int]:
        return dict(sorted(self.tokenizer.get_vocab().items()))

    def towers(self) -> dict[str, Tower]:
        matrices = {
            name: f'self_attn.{name}' for name in ('q_proj', 'k_proj', 'v_proj', 'out_proj')
        }
        matrices |= {name: f'mlp.{name}' for name in ('fc1', 'fc2')}
        query_value = ('self_attn.q_proj', 'self_attn.v_proj')
        return {
            name: Tower(
                f'{name}_model.encoder.layers',
                matrices,
                ('q_proj', 'v_proj'),
                query_value=query_value,
            )
            for name in ('vision', 'text')
        }

    def set_logit(self, *, scale: float, bias: float) -> None:
        with torch.no_grad():
            self.model.logit_scale.fill_(math.log(scale))
            self.model.logit_bias.fill_(bias)

    def use_plain_attention(self) -> None:
        super().use_plain_attention()
        self.model.set_attn_implementation('eager')

    def drop_text(self) -> None:
        self.model.text_model = None

    def drop_pooling(self) -> None:
        self.model.vision_model.head = None

    def save_pretrained(self, folder: str | Path) -> None:
        """Write a transformers checkpoint: configuration, safetensors, tokenizer, processor."""
        self.model.save_pretrained(folder)
        for part in (self.tokenizer, self.image_processor):
            if part is not None:
                part.save_pretrained(folder)


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
            config = AutoConfig.from_pretrained(source, trust_remote_code=False)
        except (OSError, ValueError) as error:
            raise ValueError(f'{source}: no SigLIP configuration ({first_line(error)})') from error
    if config.model_type not in MODEL_TYPES:
        raise ValueError(
            f'{source}: expected model_type {" or ".join(MODEL_TYPES)}, found {config.model_type!r}'
        )
    return config

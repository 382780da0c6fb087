"""SigLIP and SigLIP 2 (fixed resolution and NaFlex) on transformers' own modules.

Papers: https://arxiv.org/abs/2303.15343 (SigLIP), https://arxiv.org/abs/2502.14786 (SigLIP 2).
Shapes: B images, N = h*w tokens (SigLIP has no CLS), C channels, which is also D.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from torch import Tensor, nn
from transformers import Siglip2ImageProcessor, SiglipImageProcessor

from mmseg_siglip.models.adapters import big_vision
from mmseg_siglip.models.adapters.open_clip_siglip import PROBE, siglip_config, to_siglip
from mmseg_siglip.models.backbones.block import merge_heads, split_heads
from mmseg_siglip.models.backbones.pooled import AttentionPooled
from mmseg_siglip.models.backbones.position import resize_position
from mmseg_siglip.models.backbones.siglip_checkpoint import read_open_clip_siglip
from mmseg_siglip.models.backbones.siglip_text import SigLIPText
from mmseg_siglip.models.backbones.towers import Tower
from mmseg_siglip.models.backbones.transformers_backbone import Described, vocabulary_size
from mmseg_siglip.models.backbones.trunk import Method
from mmseg_siglip.models.backbones.vision_trunk import unfold_patches
from mmseg_siglip.registry import MODELS
from mmseg_siglip.weights.claims import size_of
from mmseg_siglip.weights.foreign import as_data
from mmseg_siglip.weights.source import Source
from mmseg_siglip.weights.state import load_strict
from mmseg_siglip.weights.tokenizers import load_tokenizer
from mmseg_siglip.weights.transformers_model import (
    build_model,
    check_model_size,
)

READOUTS = ('map', 'value', 'raw')


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
    """A `Block` over the attention pooling head; see `AttentionPooled`."""

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
        patches = unfold_patches(images, grid, p).unflatten(1, (3, p * p))
        patches = patches.permute(0, 3, 4, 2, 1).flatten(3)  # pixels before channels
        x = embeddings.patch_embedding(patches.flatten(1, 2))
        resampling = dict(mode='bilinear', antialias=True)
    else:
        x = embeddings.patch_embedding(images).flatten(2).transpose(1, 2)
        resampling = dict(mode='bicubic')
    return x + resize_position(embeddings.position_embedding.weight, native, grid, **resampling)


@MODELS.register_module()
class SigLIPBackbone(AttentionPooled, SigLIPText):
    """SigLIP or SigLIP 2 as a dense encoder.

    Args:
        pretrained: A transformers folder, a Hub id, the name of a checkpoint shipped with this
            package, or a bare weight file (``.safetensors``, MMEngine ``.pth``); or, in open_clip's
            layout, ``NAME:TAG`` (``ViT-B-16-SigLIP2-256:webli``), a folder, a Hub id or a file; or
            big_vision's ``.npz``, which tells its own shape and brings no `tokenizer`.
            None builds random weights from `config`.
        config: Folder, Hub id or mapping that describes the model, where `pretrained` does not: a
            mapping is a transformers configuration with its `model_type`, or open_clip's, which may
            also be named (``ViT-B-16-SigLIP2-256``). A weight file is described by the folder that
            it lies in unless told otherwise.
        tokenizer: Folder or Hub id of the tokenizer, where it is not beside the weights.
        attention: Default of `dense`.
        readout: See `AttentionPooled`.
        site: See `AttentionPooled`.
        out_indices: See `VisionLanguageBackbone`.
        with_cp: See `VisionLanguageBackbone`.
        revision: Commit of a Hub id.

    Raises:
        ValueError: The checkpoint is of another kind, or lacks weights.
    """

    num_prefix = 0
    readouts = READOUTS
    model_types = ('siglip', 'siglip2')
    idle = ('logit_scale', 'logit_bias', 'head.probe')

    def __init__(
        self,
        pretrained: str | Source | None = None,
        *,
        config: Described | None = None,
        tokenizer: str | None = None,
        attention: str | dict | Method = 'csa',
        readout: str = 'value',
        site: str = 'auto',
        out_indices: Sequence[int] = (-1,),
        with_cp: bool = False,
        revision: str | None = None,
    ) -> None:
        super().__init__(attention=attention, out_indices=out_indices, with_cp=with_cp)
        self.readout, self.site = readout, site
        self.open_checkpoint(pretrained, config=config, tokenizer=tokenizer, revision=revision)
        self.naflex = self.config.model_type == 'siglip2'
        self.finish()

    @classmethod
    def recognises(cls, source: Source) -> bool:
        if source.is_file:
            marks = ('vision_model.head.probe', big_vision.MARK)
            return any(map(source.has, marks)) or (
                source.has(PROBE) and not source.has('visual.trunk.norm_pre.weight')
            )
        return source.model_type in cls.model_types or 'siglip' in source.timm_model

    def open_model(
        self,
        source: Source | None,
        config: Described | None,
        tokenizer: str | None,
        revision: str | None,
    ) -> None:
        if source is not None and source.is_file and big_vision.MARK in source.tensors:
            self._open_big_vision(source, tokenizer)
            return
        found = read_open_clip_siglip(source, config, self.model_types)
        if found is None:
            super().open_model(source, config, tokenizer, revision)
            return
        checkpoint, name = found.checkpoint, str(source or config)
        described = siglip_config(checkpoint.config, name)
        if checkpoint.state is not None:
            check_model_size(described, size_of(checkpoint.state), name)
        self.model = build_model(described, name)
        if checkpoint.state is not None:
            load_strict(self.model, self.renamed(checkpoint.state, name), name)
        tokenizer = tokenizer or found.tokenizer
        self.tokenizer = tokenizer and load_tokenizer(
            tokenizer, padding=True, tokens=vocabulary_size(self.model.config)
        )
        side = described.vision_config.image_size
        mean, std = checkpoint.pixels
        self.image_processor = SiglipImageProcessor(
            size=dict(height=side, width=side), image_mean=mean, image_std=std
        )

    def _open_big_vision(self, source: Source, tokenizer: str | None) -> None:
        with as_data(source, 'expected the weights of a SigLIP of big_vision'):
            state = big_vision.unstacked(source.tensors)
            described = big_vision.big_vision_config(state, source.path.stem)
            state = big_vision.from_big_vision(state)
        check_model_size(described, size_of(state), source)
        self.model = build_model(described, source)
        load_strict(self.model, state, source)
        self.tokenizer = tokenizer and load_tokenizer(
            tokenizer, padding=True, tokens=vocabulary_size(self.model.config)
        )
        vision = described.vision_config
        if described.model_type == 'siglip2':
            self.image_processor = Siglip2ImageProcessor(
                patch_size=vision.patch_size, max_num_patches=vision.num_patches
            )
        else:
            side = vision.image_size
            self.image_processor = SiglipImageProcessor(size=dict(height=side, width=side))

    def rename(self, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        return to_siglip(state)

    def blocks(self) -> list[SigLIPBlock]:
        return [SigLIPBlock(layer) for layer in self.model.vision_model.encoder.layers]

    def embed(self, images: Tensor, grid: tuple[int, int]) -> Tensor:
        return embed_patches(self.model.vision_model, images, grid, self.native_grid)

    def norm(self, x: Tensor) -> Tensor:
        return self.model.vision_model.post_layernorm(x)

    def head_block(self) -> HeadBlock:
        return HeadBlock(self.model.vision_model.head)

    def probe(self) -> Tensor:
        return self.model.vision_model.head.probe

    def unread(self, method: Method, *, readout: str | None = None) -> list[nn.Module]:
        if method.pools:
            return []
        vision = self.model.vision_model
        layer, head = vision.encoder.layers[-1], vision.head
        attention = layer.self_attn
        projections = dict(q=attention.q_proj, k=attention.k_proj, v=attention.v_proj)
        parts = [part for name, part in projections.items() if name not in method.reads]
        if not method.ffn:
            parts += [layer.layer_norm2, layer.mlp]
        unused = dict(raw=[head], value=[head.layernorm, head.mlp], map=[])
        return parts + unused[readout or self.readout]

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

    def towers(self) -> dict[str, Tower]:
        vision, text = (self.layers(f'{name}_model.encoder.layers') for name in ('vision', 'text'))
        return dict(vision=vision, text=replace(text, behind={'head': 'text_model.head'}))

    def drop_pooling(self) -> None:
        self.model.vision_model.head = None

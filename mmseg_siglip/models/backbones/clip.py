"""CLIP (OpenAI, LAION, DFN, MetaCLIP; any ViT) on open_clip's modules.

Paper: https://arxiv.org/abs/2103.00020. Shapes: B images, N = 1 + h*w tokens (CLS first),
C trunk channels, D joint channels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from open_clip import CLIP
from open_clip.transformer import ResidualAttentionBlock, VisionTransformer
from torch import Tensor, nn

from mmseg_siglip.models.backbones.causal_text import (
    FUSED,
    MLP,
    CausalText,
    CLIPBlock,
    is_causal,
)
from mmseg_siglip.models.backbones.clip_checkpoint import TRANSFORMERS_CLIP, read_clip_checkpoint
from mmseg_siglip.models.backbones.position import resize_position
from mmseg_siglip.models.backbones.tokens import Tokens
from mmseg_siglip.models.backbones.towers import Tower
from mmseg_siglip.models.backbones.trunk import Method
from mmseg_siglip.registry import MODELS
from mmseg_siglip.weights.open_clip_checkpoint import build_open_clip, plain_fields
from mmseg_siglip.weights.source import Source
from mmseg_siglip.weights.state import load_strict

POSITION_OFFSET = 0.1


@MODELS.register_module()
class CLIPBackbone(CausalText):
    """CLIP as a dense encoder.

    Args:
        pretrained: See `read_clip_checkpoint`. None builds random weights from `arch`.
        arch: open_clip's name of the architecture, or its configuration as a mapping. Needed for
            random weights and for bare weight files whose origin is unknown.
        attention: Default of `dense`.
        position_mode: See `resize_position`; CLIP Surgery has ``bilinear``.
        position_antialias: See `resize_position`; GEM has it, and no offset.
        position_offset: See `resize_position`; 0.1 as in SCLIP, 0 as in CAT-Seg.
        out_indices: See `VisionLanguageBackbone`.
        with_cp: See `VisionLanguageBackbone`.

    Raises:
        ValueError: The checkpoint is of another kind, or its weights do not fit.
    """

    num_prefix = 1
    model_types = ('clip',)
    learnt_with = ('resampling', 'activation')

    def __init__(
        self,
        pretrained: str | Source | None = None,
        *,
        arch: str | Mapping | None = None,
        attention: str | dict | Method = 'csa',
        position_mode: str = 'bicubic',
        position_antialias: bool = False,
        position_offset: float = POSITION_OFFSET,
        out_indices: Sequence[int] = (-1,),
        with_cp: bool = False,
    ) -> None:
        super().__init__(attention=attention, out_indices=out_indices, with_cp=with_cp)
        self.resampling = dict(
            mode=position_mode, antialias=position_antialias, offset=position_offset
        )
        if pretrained is None and arch is None:
            raise ValueError('CLIPBackbone: expected pretrained or arch, found neither')
        checkpoint = read_clip_checkpoint(pretrained, arch)
        self.model = build_clip(checkpoint.config, str(pretrained or arch), checkpoint.state)
        if checkpoint.state is not None:
            load_strict(self.model, checkpoint.state, pretrained)

        visual = self.model.visual
        self.image_size = tuple(visual.image_size)
        self.patch_size = visual.patch_size[0]
        self.hidden_size = visual.conv1.out_channels
        self.embed_dim = visual.output_dim
        self.mean, self.std = (tuple(255 * v for v in values) for values in checkpoint.pixels)
        self.set_text(checkpoint.config)
        self.finish()

    @property
    def text_tower(self) -> CLIP:
        return self.model

    @property
    def activation(self) -> str:
        return type(self.model.visual.transformer.resblocks[0].mlp.gelu).__name__

    @classmethod
    def recognises(cls, source: Source) -> bool:
        if source.is_file:
            return source.has('visual.conv1.weight') or source.has(TRANSFORMERS_CLIP)
        if source.open_clip_model:
            return not source.timm_model
        return source.model_type in cls.model_types or source.open_clip_name is not None

    def blocks(self) -> list[CLIPBlock]:
        return [CLIPBlock(block) for block in self.model.visual.transformer.resblocks]

    def embed(self, images: Tensor, grid: tuple[int, int]) -> Tensor:
        visual = self.model.visual
        x = visual.conv1(images).flatten(2).transpose(1, 2)
        cls = visual.class_embedding.to(x.dtype).expand(x.shape[0], 1, -1)
        cls_position, position = visual.positional_embedding.split([1, visual.grid_size[0] ** 2])
        position = resize_position(position, self.native_grid, grid, **self.resampling)
        return visual.ln_pre(torch.cat([cls, x], dim=1) + torch.cat([cls_position, position]))

    def norm(self, x: Tensor) -> Tensor:
        return self.model.visual.ln_post(x)

    def project(self, tokens: Tokens, *, readout: str | None = None) -> Tensor:
        self.check_readout(readout or self.readouts[0])
        return tokens.replace(self.norm(tokens.x) @ self.model.visual.proj).map

    def unread(self, method: Method, *, readout: str | None = None) -> list[nn.Module]:
        if method.pools:
            return []
        block = self.model.visual.transformer.resblocks[-1]
        return [] if method.ffn else [block.ln_2, block.mlp, block.ls_2]

    def summary(self, x: Tensor) -> Tensor:
        return self.norm(x[:, 0])

    def pool(self, x: Tensor) -> Tensor:
        return self.summary(x) @ self.model.visual.proj

    def vision_parts(
        self, blocks: int, *, norm: bool, pooling: bool
    ) -> list[nn.Module | nn.Parameter]:
        visual = self.model.visual
        parts = [visual.conv1, visual.ln_pre, *visual.transformer.resblocks[:blocks]]
        parts += [visual.class_embedding, visual.positional_embedding]
        return parts + ([visual.ln_post] if norm or pooling else [])

    def pooling_parts(self) -> list[nn.Module]:
        return []

    def is_text(self, name: str) -> bool:
        return not name.startswith('visual.')

    def towers(self) -> dict[str, Tower]:
        # The vision tower is run by our own blocks, so that its `out_proj` is called.
        vision = {'out_proj': 'attn.out_proj', **MLP}
        return dict(
            vision=Tower('visual.transformer.resblocks', vision, tuple(vision), fused=FUSED),
            text=self.text_layers('transformer.resblocks'),
        )

    def drop_text(self) -> None:
        for name in ('transformer', 'token_embedding', 'ln_final'):
            setattr(self.model, name, None)
        self.model.positional_embedding = self.model.text_projection = None

    def drop_pooling(self) -> None:
        self.model.visual.proj = None


def build_clip(config: Mapping, source: str, state: Mapping[str, Tensor] | None = None) -> CLIP:
    """An open_clip model with random weights, in float32; see `build_open_clip`.

    Raises:
        ValueError: The architecture is not a CLIP with a plain ViT and a causal text tower.
    """
    fields = plain_fields(config)
    if fields is not None and not config.get('custom_text') and not is_other(fields):
        model = build_open_clip(CLIP, fields, source, state)
        if is_plain(model):
            return model
    raise ValueError(
        f'{source}: expected a CLIP with a ViT and a causal text tower, '
        f'found an open_clip configuration with {", ".join(sorted(config))}'
    )


def is_other(fields: Mapping) -> bool:
    """Whether a tower is to come out of timm or transformers."""
    names = fields['vision_cfg'].get('timm_model_name'), fields['text_cfg'].get('hf_model_name')
    return any(names)


def is_plain(model: CLIP) -> bool:
    visual = model.visual
    return (
        isinstance(visual, VisionTransformer)
        and all(isinstance(block, ResidualAttentionBlock) for block in visual.transformer.resblocks)
        and visual.attn_pool is None
        and visual.pool_type == 'tok'
        and not visual.final_ln_after_pool
        and visual.patch_size[0] == visual.patch_size[1]
        and is_causal(model)
    )

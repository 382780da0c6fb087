"""Perception Encoder, core (PE-Core), on open_clip's and timm's modules.

Paper: https://arxiv.org/abs/2504.13181. Positions are added once and, in each block, turn queries
and keys. At other sizes than the checkpoint's they are resampled as timm does: the added ones by
bicubic interpolation, and those that turn are stretched to the grid of training. (The authors' own
code interpolates bilinearly and does not stretch.)

Shapes: B images, P prefix tokens (CLS; none in the largest model), N = P + h*w tokens, C trunk
channels, D joint channels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from timm.layers import (
    AttentionPoolLatent,
    AttentionRope,
    RotaryEmbeddingCat,
    apply_rot_embed_cat,
    build_rotary_pos_embed,
)
from timm.models import Eva
from torch import Tensor, nn

from mmseg_siglip.models.backbones.block import merge_heads, split_heads
from mmseg_siglip.models.backbones.causal_text import CausalText, is_causal
from mmseg_siglip.models.backbones.pooled import AttentionPooled
from mmseg_siglip.models.backbones.position import resize_position
from mmseg_siglip.models.backbones.towers import Tower
from mmseg_siglip.models.backbones.trunk import Method
from mmseg_siglip.registry import MODELS
from mmseg_siglip.weights.open_clip_checkpoint import HALVES, build_timm_clip, read_open_clip
from mmseg_siglip.weights.source import Source
from mmseg_siglip.weights.state import load_strict

PARTS = ('visual.trunk.attn_pool.latent', 'visual.trunk.norm_pre.weight')


class Turns:
    """Sines and cosines by which the patches of a grid are turned, made once a pass."""

    def __init__(self, rope: RotaryEmbeddingCat) -> None:
        self.rope = rope
        self.made: dict[tuple[int, int], Tensor] = {}

    def __call__(self, grid: tuple[int, int], device: torch.device) -> Tensor:
        """(h*w, 2*d)."""
        if grid not in self.made:
            rope = self.rope
            parts = build_rotary_pos_embed(
                list(grid),
                dim=rope.dim,
                temperature=float(rope.temperature),
                in_pixels=False,
                ref_feat_shape=rope.ref_feat_shape,
                grid_offset=rope.grid_offset,
                grid_indexing=rope.grid_indexing,
                device=device,
            )
            self.made[grid] = torch.cat(parts, dim=-1)
        return self.made[grid]


class PEBlock:
    """A `Block` over a block of timm's Eva."""

    def __init__(self, block: nn.Module, turns: Turns) -> None:
        self.block, self.turns = block, turns

    def norm(self, x: Tensor) -> Tensor:
        return self.block.norm1(x)

    def qkv(self, u: Tensor, grid: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
        attention = self.block.attn
        q, k, v = (
            split_heads(part, attention.num_heads) for part in attention.qkv(u).chunk(3, dim=-1)
        )
        turn = self.turns(grid, u.device)
        q, k = (self._turned(x, turn).type_as(v) for x in (q, k))
        return q, k, v

    def _turned(self, x: Tensor, turn: Tensor) -> Tensor:
        prefix, patches = x.tensor_split([self.block.attn.num_prefix_tokens], dim=2)
        return torch.cat([prefix, apply_rot_embed_cat(patches, turn)], dim=2)

    def out(self, y: Tensor) -> Tensor:
        return self.block.attn.proj(merge_heads(y))

    def ffn(self, x: Tensor) -> Tensor:
        return self.block.mlp(self.block.norm2(x))


class PoolBlock:
    """A `Block` over timm's attention pooling head; see `AttentionPooled`."""

    def __init__(self, pool: AttentionPoolLatent) -> None:
        self.head = pool

    def norm(self, x: Tensor) -> Tensor:
        return x

    def qkv(self, u: Tensor, grid: object = None) -> tuple[Tensor, Tensor, Tensor]:
        parts = (self.head.q(u), *self.head.kv(u).chunk(2, dim=-1))
        return tuple(split_heads(part, self.head.num_heads) for part in parts)

    def out(self, y: Tensor) -> Tensor:
        return self.head.proj(merge_heads(y))

    def ffn(self, x: Tensor) -> Tensor:
        return self.head.mlp(self.head.norm(x))


@MODELS.register_module()
class PECoreBackbone(AttentionPooled, CausalText):
    """PE-Core as a dense encoder.

    Args:
        pretrained: open_clip's ``NAME:TAG`` (``PE-Core-B-16:meta``); a folder or Hub id with
            ``open_clip_config.json``; a file beside one, or any file of weights with `arch`. None
            builds random weights from `arch`.
        arch: open_clip's name of the architecture, or its configuration as a mapping.
        attention: Default of `dense`.
        readout: See `AttentionPooled`.
        site: See `AttentionPooled`.
        out_indices: See `VisionLanguageBackbone`.
        with_cp: See `VisionLanguageBackbone`.
        revision: Commit of a Hub id.

    Raises:
        ValueError: The checkpoint is of another kind, or its weights do not fit.
    """

    readouts = ('map', 'value')
    rotary = True
    idle = ('logit_scale', 'attn_pool.latent', 'attn_pool.q.weight', 'attn_pool.q.bias')

    def __init__(
        self,
        pretrained: str | Source | None = None,
        *,
        arch: str | Mapping | None = None,
        attention: str | dict | Method = 'csa',
        readout: str = 'map',
        site: str = 'auto',
        out_indices: Sequence[int] = (-1,),
        with_cp: bool = False,
        revision: str | None = None,
    ) -> None:
        super().__init__(attention=attention, out_indices=out_indices, with_cp=with_cp)
        self.readout, self.site = readout, site
        if pretrained is None and arch is None:
            raise ValueError('PECoreBackbone: expected pretrained or arch, found neither')
        source = None if pretrained is None else Source.open(pretrained, revision=revision)
        checkpoint = read_open_clip(source, arch, pixels=HALVES)
        self.model = build_pe_core(checkpoint.config, str(source or arch), checkpoint.state)
        if checkpoint.state is not None:
            load_strict(self.model, checkpoint.state, str(source))

        trunk = self.model.visual.trunk
        self.num_prefix = trunk.num_prefix_tokens
        self.image_size = tuple(trunk.patch_embed.img_size)
        self.patch_size = trunk.patch_embed.patch_size[0]
        self.hidden_size = trunk.embed_dim
        self.embed_dim = trunk.head.out_features
        self.mean, self.std = (tuple(255 * v for v in values) for values in checkpoint.pixels)
        self.set_text(checkpoint.config)
        self.finish()

    @property
    def text_tower(self) -> nn.Module:
        return self.model.text

    @classmethod
    def recognises(cls, source: Source) -> bool:
        if source.is_file:
            return all(map(source.has, PARTS))
        return source.timm_model.startswith('vit_pe_core_')

    def blocks(self) -> list[PEBlock]:
        trunk = self.model.visual.trunk
        turns = Turns(trunk.rope)
        return [PEBlock(block, turns) for block in trunk.blocks]

    def embed(self, images: Tensor, grid: tuple[int, int]) -> Tensor:
        trunk = self.model.visual.trunk
        x = trunk.patch_embed.proj(images).flatten(2).transpose(1, 2)
        if trunk.cls_token is not None:
            x = torch.cat([trunk.cls_token.expand(len(x), -1, -1), x], dim=1)
        prefix, position = trunk.pos_embed[0].tensor_split([self.num_prefix])
        position = resize_position(position, self.native_grid, grid, mode='bicubic', antialias=True)
        return trunk.norm_pre(x + torch.cat([prefix, position]))

    def norm(self, x: Tensor) -> Tensor:
        return self.model.visual.trunk.norm(x)

    def head_block(self) -> PoolBlock:
        return PoolBlock(self.model.visual.trunk.attn_pool)

    def probe(self) -> Tensor:
        latent = self.model.visual.trunk.attn_pool.latent
        return latent.reshape(1, 1, -1)

    def to_joint(self, x: Tensor) -> Tensor:
        return self.model.visual.trunk.head(x)

    def unread(self, method: Method, *, readout: str | None = None) -> list[nn.Module]:
        if method.pools:
            return []
        trunk = self.model.visual.trunk
        block, pool = trunk.blocks[-1], trunk.attn_pool
        parts = [] if method.ffn else [block.norm2, block.mlp]
        return parts + ([] if (readout or self.readout) == 'map' else [pool.norm, pool.mlp])

    def summary(self, x: Tensor) -> Tensor:
        return self.model.visual.trunk.attn_pool(self.norm(x))

    def pool(self, x: Tensor) -> Tensor:
        return self.to_joint(self.summary(x))

    def vision_parts(
        self, blocks: int, *, norm: bool, pooling: bool
    ) -> list[nn.Module | nn.Parameter]:
        trunk = self.model.visual.trunk
        parts = [trunk.patch_embed, trunk.pos_embed, trunk.norm_pre, *trunk.blocks[:blocks]]
        parts += [trunk.cls_token] if self.num_prefix else []
        parts += [trunk.norm] if norm or pooling else []
        return parts + ([trunk.attn_pool] if pooling else [])

    def pooling_parts(self) -> list[nn.Module]:
        return [self.model.visual.trunk.attn_pool]

    def is_text(self, name: str) -> bool:
        return name.startswith('text.')

    def towers(self) -> dict[str, Tower]:
        matrices = {'qkv': 'attn.qkv', 'out_proj': 'attn.proj', 'fc1': 'mlp.fc1', 'fc2': 'mlp.fc2'}
        vision = Tower('visual.trunk.blocks', matrices, ('qkv',), fused=('attn.qkv', 'weight'))
        return dict(vision=vision, text=self.text_layers('text.transformer.resblocks'))

    def drop_text(self) -> None:
        self.model.text = None

    def drop_pooling(self) -> None:
        self.model.visual.trunk.attn_pool = self.model.visual.trunk.head = None


def build_pe_core(config: Mapping, source: str, state: Mapping[str, Tensor] | None) -> nn.Module:
    """An open_clip model with random weights, in float32; see `build_open_clip`.

    Raises:
        ValueError: The architecture is not PE-Core's.
    """
    model = build_timm_clip(config, source, state)
    if model is None or not is_pe_core(model):
        raise ValueError(
            f"{source}: expected a PE-Core of open_clip, with timm's Eva, an attention pooling "
            'head and a causal text tower, found another model'
        )
    return model


def is_pe_core(model: nn.Module) -> bool:
    trunk = model.visual.trunk
    return (
        isinstance(trunk, Eva)
        and isinstance(trunk.attn_pool, AttentionPoolLatent)
        and isinstance(trunk.rope, RotaryEmbeddingCat)
        and not getattr(trunk.rope, 'rotate_half', False)
        and isinstance(trunk.head, nn.Linear)
        and trunk.pos_embed is not None
        and trunk.reg_token is None
        and all(
            isinstance(block.attn, AttentionRope)
            and block.attn.qkv is not None
            and getattr(block, 'gamma_1', block) is None
            for block in trunk.blocks
        )
        and is_causal(model.text)
    )

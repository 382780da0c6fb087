"""CLIP (OpenAI, LAION, DFN, MetaCLIP; any ViT) on open_clip's modules.

Paper: https://arxiv.org/abs/2103.00020. Shapes: B images, N = 1 + h*w tokens (CLS first),
C trunk channels, D joint channels, L text tokens.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from open_clip import CLIP, SimpleTokenizer
from open_clip.transformer import ResidualAttentionBlock, VisionTransformer, text_global_pool
from torch import Tensor, nn

from mmseg_siglip.models.backbones.base import VisionLanguageBackbone
from mmseg_siglip.models.backbones.block import merge_heads, split_heads
from mmseg_siglip.models.backbones.clip_checkpoint import (
    TRANSFORMERS_CLIP,
    CLIPCheckpoint,
    named_config,
    read_clip_checkpoint,
)
from mmseg_siglip.models.backbones.position import resize_position
from mmseg_siglip.models.backbones.tokens import Tokens
from mmseg_siglip.models.backbones.towers import Tower
from mmseg_siglip.models.backbones.trunk import Method
from mmseg_siglip.registry import MODELS
from mmseg_siglip.weights.source import Source
from mmseg_siglip.weights.state import load_strict

POSITION_OFFSET = 0.1


class CLIPBlock:
    """A `Block` over an open_clip residual attention block, of either tower."""

    def __init__(self, block: ResidualAttentionBlock) -> None:
        self.block = block

    def norm(self, x: Tensor) -> Tensor:
        return self.block.ln_1(x)

    def qkv(self, u: Tensor, grid: object = None) -> tuple[Tensor, Tensor, Tensor]:
        attention = self.block.attn
        qkv = nn.functional.linear(u, attention.in_proj_weight, attention.in_proj_bias)
        return tuple(split_heads(part, attention.num_heads) for part in qkv.chunk(3, dim=-1))

    def out(self, y: Tensor) -> Tensor:
        return self.block.ls_1(self.block.attn.out_proj(merge_heads(y)))

    def ffn(self, x: Tensor) -> Tensor:
        return self.block.ls_2(self.block.mlp(self.block.ln_2(x)))


@MODELS.register_module()
class CLIPBackbone(VisionLanguageBackbone):
    """CLIP as a dense encoder.

    Args:
        pretrained: See `read_clip_checkpoint`. None builds random weights from `arch`.
        arch: open_clip's name of the architecture, or its configuration as a mapping. Needed for
            random weights and for bare weight files whose origin is unknown.
        attention: Default of `dense`.
        position_offset: See `resize_position`; 0.1 as in SCLIP, 0 as in CAT-Seg.
        out_indices: See `VisionLanguageBackbone`.
        with_cp: See `VisionLanguageBackbone`.

    Raises:
        ValueError: The checkpoint is of another kind, or its weights do not fit.
    """

    num_prefix = 1
    model_types = ('clip',)

    def __init__(
        self,
        pretrained: str | Source | None = None,
        *,
        arch: str | Mapping | None = None,
        attention: str | dict | Method = 'csa',
        position_offset: float = POSITION_OFFSET,
        out_indices: Sequence[int] = (-1,),
        with_cp: bool = False,
    ) -> None:
        super().__init__(attention=attention, out_indices=out_indices, with_cp=with_cp)
        self.position_offset = position_offset
        if pretrained is None and arch is None:
            raise ValueError('CLIPBackbone: expected pretrained or arch, found neither')
        if pretrained is None:
            checkpoint = CLIPCheckpoint(named_config(arch), None)
        else:
            checkpoint = read_clip_checkpoint(pretrained, arch)
        self.model = build_clip(checkpoint.config, str(pretrained or arch))
        if checkpoint.state is not None:
            load_strict(self.model, checkpoint.state, pretrained)

        config, visual = checkpoint.config, self.model.visual
        self._text_settings = dict(
            quick_gelu=bool(config.get('quick_gelu')), text_cfg=dict(config['text_cfg'])
        )
        self.image_size = tuple(visual.image_size)
        self.patch_size = visual.patch_size[0]
        self.hidden_size = visual.conv1.out_channels
        self.embed_dim = visual.output_dim
        self.text_width = self.model.ln_final.normalized_shape[0]
        self.mean = tuple(255 * value for value in checkpoint.mean)
        self.std = tuple(255 * value for value in checkpoint.std)
        self.tokenizer = SimpleTokenizer(context_length=self.model.context_length)
        self.eval()

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
        cls = visual.class_embedding.to(x.dtype).expand(len(x), 1, -1)
        cls_position, position = visual.positional_embedding.split([1, visual.grid_size[0] ** 2])
        position = resize_position(position, self.native_grid, grid, offset=self.position_offset)
        return visual.ln_pre(torch.cat([cls, x], dim=1) + torch.cat([cls_position, position]))

    def norm(self, x: Tensor) -> Tensor:
        return self.model.visual.ln_post(x)

    def project(self, tokens: Tokens, *, readout: str | None = None, mix: object = None) -> Tensor:
        self.check_readout(readout or self.readouts[0])
        if mix is not None:
            raise ValueError('mix: expected none, as CLIP has no attention pooling head')
        return tokens.replace(self.norm(tokens.x) @ self.model.visual.proj).map

    def unread(self, method: Method, *, readout: str | None = None) -> list[nn.Module]:
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

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """Prompts to vectors (N, D).

        The text tower is causal and pools at the end-of-text token, so what stands behind it has
        no effect: the tower runs up to the longest prompt of the call, not up to its full context.
        What all prompts begin with is encoded once, so calls with one template are cheap.
        """
        return self.encode_tokens(self.tokenize(texts))

    def encode_text_tokens(self, texts: Sequence[str]) -> tuple[Tensor, Tensor, Tensor]:
        tokens = self.tokenize(texts)
        prefix, x = self._text_tower(tokens)
        x = torch.cat([prefix.expand(len(x), -1, -1), x], dim=1)
        end = tokens.argmax(dim=-1, keepdim=True)
        real = torch.arange(tokens.shape[1], device=tokens.device) <= end
        return x, real, text_global_pool(x, tokens) @ self.model.text_projection

    def tokenize(self, texts: Sequence[str]) -> Tensor:
        """Token ids, up to the longest prompt's end: (N, L).

        Raises:
            ValueError: A prompt is too long, or the text tower is gone.
        """
        self.require_text()
        for text in texts:
            length = len(self.tokenizer.encode(text)) + 2
            if length > self.model.context_length:
                raise ValueError(
                    f'expected a prompt of at most {self.model.context_length} tokens, '
                    f'found {length}: {text!r}'
                )
        tokens = self.tokenizer(list(texts)).to(self.model.token_embedding.weight.device)
        return tokens[:, : tokens.argmax(dim=-1).max() + 1]

    def encode_tokens(self, tokens: Tensor) -> Tensor:
        """Token ids (N, L), L up to the context length, to vectors (N, D)."""
        prefix, x = self._text_tower(tokens)
        pooled = text_global_pool(x, tokens[:, prefix.shape[1] :])
        return pooled @ self.model.text_projection

    def _text_tower(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Token ids (N, L) to what the tower makes of the S that all rows begin with, (1, S, T),
        and of the others, (N, L - S, T), normed."""
        model, length = self.model, tokens.shape[1]
        shared = common_prefix(tokens)
        mask = model.attn_mask[:length, :length]
        x = model.token_embedding(tokens) + model.positional_embedding[:length]
        x, prefix = x[:, shared:], x[:1, :shared]
        for block in map(CLIPBlock, model.transformer.resblocks):
            prefix, keys, values = run_causal(block, prefix, mask[:shared, :shared])
            x, *_ = run_causal(block, x, mask[shared:], keys, values)
        return model.ln_final(prefix), model.ln_final(x)

    def project_text(self, tokens: Tensor) -> Tensor:
        return tokens @ self.model.text_projection

    def is_text(self, name: str) -> bool:
        return not name.startswith('visual.')

    def text_settings(self) -> dict[str, Any]:
        return self._text_settings

    def towers(self) -> dict[str, Tower]:
        # open_clip fuses query, key and value into one parameter, which is no layer that peft can
        # adapt. Its text tower reads `out_proj.weight` without calling the layer, so that an
        # adapter would have no effect there; the vision tower is run by our own blocks.
        mlp = {'c_fc': 'mlp.c_fc', 'c_proj': 'mlp.c_proj'}
        fused = ('attn', 'in_proj_weight')
        vision = {'out_proj': 'attn.out_proj', **mlp}
        return dict(
            vision=Tower('visual.transformer.resblocks', vision, tuple(vision), fused=fused),
            text=Tower('transformer.resblocks', mlp, tuple(mlp), fused=fused),
        )

    def set_logit(self, *, scale: float, bias: float) -> None:
        if bias and self.model.logit_bias is None:
            raise ValueError(f'logit_bias: expected 0, as this CLIP has none, found {bias}')
        with torch.no_grad():
            self.model.logit_scale.fill_(math.log(scale))
            if self.model.logit_bias is not None:
                self.model.logit_bias.fill_(bias)

    def drop_text(self) -> None:
        for name in ('transformer', 'token_embedding', 'ln_final'):
            setattr(self.model, name, None)
        self.model.positional_embedding = self.model.text_projection = None

    def drop_pooling(self) -> None:
        self.model.visual.proj = None


def common_prefix(tokens: Tensor) -> int:
    """How many of the first tokens (N, L) are the same in all rows, at most L - 1."""
    same = (tokens == tokens[:1]).all(dim=0)
    return min(int(same.cumprod(dim=0).sum()), tokens.shape[1] - 1)


def run_causal(
    block: CLIPBlock, x: Tensor, mask: Tensor, *before: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Run a text block on tokens (N, T, C) that also see the keys and values of those `before`.

    Args:
        block: A block of the text tower.
        x: Tokens, T of them a row.
        mask: (T, S + T), added to the attention logits.
        before: Keys and values (1, H, S, d) of S tokens in front of every row; none if S is 0.

    Returns:
        The tokens (N, T, C), and their own keys and values (N, H, T, d).
    """
    q, k, v = block.qkv(block.norm(x))
    keys, values = k, v
    if before:
        keys, values = (
            torch.cat([earlier.expand(len(x), -1, -1, -1), own], dim=2)
            for earlier, own in zip(before, (k, v), strict=True)
        )
    mask = mask.to(q.dtype)
    x = x + block.out(nn.functional.scaled_dot_product_attention(q, keys, values, attn_mask=mask))
    return x + block.ffn(x), k, v


def build_clip(config: Mapping, source: str) -> CLIP:
    """An open_clip model with random weights, in float32.

    Raises:
        ValueError: The architecture is not a CLIP with a plain ViT and a causal text tower.
    """
    plain = ('vision_cfg', 'text_cfg', 'embed_dim', 'quick_gelu', 'init_logit_bias')
    fields = {name: value for name, value in config.items() if name in plain}
    extra = {name for name, value in config.items() if value and name not in plain}
    if not extra and {'embed_dim', 'vision_cfg', 'text_cfg'} <= set(fields):
        model = CLIP(**fields)
        if is_plain(model):
            return model
    raise ValueError(
        f'{source}: expected a CLIP with a ViT and a causal text tower, '
        f'found an open_clip configuration with {", ".join(sorted(config))}'
    )


def is_plain(model: CLIP) -> bool:
    visual = model.visual
    return (
        isinstance(visual, VisionTransformer)
        and all(
            isinstance(block, ResidualAttentionBlock)
            for block in (*visual.transformer.resblocks, *model.transformer.resblocks)
        )
        and visual.attn_pool is None
        and visual.pool_type == 'tok'
        and not visual.final_ln_after_pool
        and visual.patch_size[0] == visual.patch_size[1]
        and model.text_pool_type == 'argmax'
        and model.attn_mask is not None
        and isinstance(model.text_projection, nn.Parameter)
    )

"""CLIP (OpenAI, LAION, DFN, MetaCLIP; any ViT) on open_clip's modules.

Paper: https://arxiv.org/abs/2103.00020. Shapes: B images, N = 1 + h*w tokens (CLS first),
C trunk channels, D joint channels, L text tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from open_clip import CLIP, SimpleTokenizer
from open_clip.transformer import ResidualAttentionBlock, VisionTransformer, text_global_pool
from torch import Tensor, nn

from mmseg_siglip.models.backbones.base import VisionLanguageBackbone
from mmseg_siglip.models.backbones.clip_checkpoint import (
    CLIPCheckpoint,
    named_config,
    read_clip_checkpoint,
)
from mmseg_siglip.models.backbones.position import resize_position
from mmseg_siglip.models.dense.attention import (
    ATTENTIONS,
    DenseAttention,
    get_attention,
    merge_heads,
    split_heads,
)
from mmseg_siglip.registry import MODELS
from mmseg_siglip.weights.state import load_strict

POSITION_OFFSET = 0.1


class TrunkBlock:
    """`attention.Block` over an open_clip residual attention block."""

    def __init__(self, block: ResidualAttentionBlock) -> None:
        self.block = block

    def qkv(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        attention = self.block.attn
        qkv = nn.functional.linear(
            self.block.ln_1(x), attention.in_proj_weight, attention.in_proj_bias
        )
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

    def __init__(
        self,
        pretrained: str | None = None,
        *,
        arch: str | Mapping | None = None,
        attention: str = 'csa',
        position_offset: float = POSITION_OFFSET,
        out_indices: Sequence[int] = (-1,),
        with_cp: bool = False,
    ) -> None:
        super().__init__(out_indices=out_indices, with_cp=with_cp)
        get_attention(attention)
        self.position_offset = position_offset
        self.attention = attention
        if pretrained is None and arch is None:
            raise ValueError('CLIPBackbone: expected pretrained or arch, found neither')
        if pretrained is None:
            checkpoint = CLIPCheckpoint(named_config(arch), None)
        else:
            checkpoint = read_clip_checkpoint(pretrained, arch)
        self.model = build_clip(checkpoint.config, pretrained or str(arch))
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
        self.mean = tuple(255 * value for value in checkpoint.mean)
        self.std = tuple(255 * value for value in checkpoint.std)
        self.tokenizer = SimpleTokenizer(context_length=self.model.context_length)
        self.eval()

    @property
    def logit_scale(self) -> float:
        return self.model.logit_scale.exp().item()

    @property
    def logit_bias(self) -> float:
        return 0.0 if self.model.logit_bias is None else self.model.logit_bias.item()

    def blocks(self) -> list[TrunkBlock]:
        return [TrunkBlock(block) for block in self.model.visual.transformer.resblocks]

    def embed(self, images: Tensor, grid: tuple[int, int]) -> Tensor:
        visual = self.model.visual
        x = visual.conv1(images).flatten(2).transpose(1, 2)
        cls = visual.class_embedding.to(x.dtype).expand(len(x), 1, -1)
        cls_position, position = visual.positional_embedding.split([1, visual.grid_size[0] ** 2])
        position = resize_position(position, self.native_grid, grid, offset=self.position_offset)
        return visual.ln_pre(torch.cat([cls, x], dim=1) + torch.cat([cls_position, position]))

    def dense(self, images: Tensor, *, attention: str | None = None) -> Tensor:
        x, grid = self.trunk(images, get_attention(attention or self.attention))
        return self.project(x, grid)

    def project(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        """Tokens of the trunk (B, N, C) into the joint space (B, D, h, w)."""
        visual = self.model.visual
        return self.to_map(visual.ln_post(x) @ visual.proj, grid)

    def unread(self, last: DenseAttention) -> list[nn.Module]:
        block = self.model.visual.transformer.resblocks[-1]
        return [] if last.ffn else [block.ln_2, block.mlp, block.ls_2]

    def encode_image(self, images: Tensor) -> Tensor:
        visual = self.model.visual
        x, _ = self.trunk(images, ATTENTIONS['vanilla'])
        return visual.ln_post(x[:, 0]) @ visual.proj

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """Prompts to vectors (N, D).

        The text tower is causal and pools at the end-of-text token, so what stands behind it has
        no effect: the tower runs up to the longest prompt of the call, not up to its full context.
        What all prompts begin with is encoded once, so calls with one template are cheap.
        """
        for text in texts:
            length = len(self.tokenizer.encode(text)) + 2
            if length > self.model.context_length:
                raise ValueError(
                    f'expected a prompt of at most {self.model.context_length} tokens, '
                    f'found {length}: {text!r}'
                )
        tokens = self.tokenizer(list(texts)).to(self.model.token_embedding.weight.device)
        tokens = tokens[:, : tokens.argmax(dim=-1).max() + 1]
        return self.encode_tokens(tokens)

    def encode_tokens(self, tokens: Tensor) -> Tensor:
        """Token ids (N, L), L up to the context length, to vectors (N, D)."""
        model, length = self.model, tokens.shape[1]
        shared = common_prefix(tokens)
        mask = model.attn_mask[:length, :length]
        x = model.token_embedding(tokens) + model.positional_embedding[:length]
        x, prefix = x[:, shared:], x[:1, :shared]
        for block in map(TrunkBlock, model.transformer.resblocks):
            prefix, keys, values = attend(block, prefix, mask[:shared, :shared])
            x, *_ = attend(block, x, mask[shared:], keys, values)
        return text_global_pool(model.ln_final(x), tokens[:, shared:]) @ model.text_projection

    def text_parameters(self) -> dict[str, Tensor]:
        return {
            name: value
            for name, value in self.model.state_dict().items()
            if not name.startswith('visual.')
        }

    def text_settings(self) -> dict[str, Any]:
        return self._text_settings


def common_prefix(tokens: Tensor) -> int:
    """How many of the first tokens (N, L) are the same in all rows, at most L - 1."""
    same = (tokens == tokens[:1]).all(dim=0)
    return min(int(same.cumprod(dim=0).sum()), tokens.shape[1] - 1)


def attend(
    block: TrunkBlock, x: Tensor, mask: Tensor, *before: Tensor
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
    q, k, v = block.qkv(x)
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

"""open_clip's causal text tower, run over no more than the prompts at hand need.

Shapes: N prompts of L tokens, T channels of the tower, D joint channels, H heads, d per head.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from open_clip import CLIP, SimpleTokenizer
from open_clip.transformer import ResidualAttentionBlock, text_global_pool
from torch import Tensor, nn

from mmseg_siglip.models.backbones.base import VisionLanguageBackbone
from mmseg_siglip.models.backbones.block import merge_heads, split_heads
from mmseg_siglip.models.backbones.towers import Tower

MLP = {'c_fc': 'mlp.c_fc', 'c_proj': 'mlp.c_proj'}
FUSED = ('attn', 'in_proj_weight')


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


class CausalText(VisionLanguageBackbone):
    """An encoder whose words pass through a causal tower of open_clip's."""

    @property
    @abstractmethod
    def text_tower(self) -> nn.Module:
        """What holds ``token_embedding``, ``transformer``, ``ln_final`` and ``text_projection``."""

    def set_text(self, config: dict) -> None:
        """Take over open_clip's configuration of the model, once the tower is there."""
        self.context_length = self.text_tower.context_length
        self.text_width = self.text_tower.ln_final.normalized_shape[0]
        self.tokenizer = SimpleTokenizer(context_length=self.context_length)
        self._text_settings = dict(
            quick_gelu=bool(config.get('quick_gelu')), text_cfg=dict(config['text_cfg'])
        )

    def text_settings(self) -> dict[str, Any]:
        return self._text_settings

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """Prompts to vectors (N, D).

        The text tower is causal and pools at the end-of-text token, so what stands behind it has
        no effect: the tower runs up to the longest prompt of the call, not up to its full context.
        What all prompts begin with is encoded once, so calls with one template are cheap.
        """
        return self.encode_tokens(self.tokenize(texts))

    def encode_text_tokens(self, texts: Sequence[str]) -> tuple[Tensor, Tensor, Tensor]:
        tokens = self.tokenize(texts)
        prefix, x = self._run(tokens)
        x = torch.cat([prefix.expand(len(x), -1, -1), x], dim=1)
        end = tokens.argmax(dim=-1, keepdim=True)
        real = torch.arange(tokens.shape[1], device=tokens.device) <= end
        return x, real, self.project_text(text_global_pool(x, tokens))

    def token_rows(self, texts: Sequence[str]) -> list[tuple[int, ...]]:
        return [tuple(self.tokenizer.encode(text)) for text in texts]

    def tokenize(self, texts: Sequence[str]) -> Tensor:
        """Token ids, up to the longest prompt's end: (N, L).

        Raises:
            ValueError: A prompt is too long, or the text tower is gone.
        """
        self.require_text()
        for text, row in zip(texts, self.token_rows(texts), strict=True):
            length = len(row) + 2
            if length > self.context_length:
                raise ValueError(
                    f'expected a prompt of at most {self.context_length} tokens, '
                    f'found {length}: {text!r}'
                )
        tokens = self.tokenizer(list(texts)).to(self.text_tower.token_embedding.weight.device)
        return tokens[:, : tokens.argmax(dim=-1).max() + 1]

    def encode_tokens(self, tokens: Tensor) -> Tensor:
        """Token ids (N, L), L up to the context length, to vectors (N, D)."""
        return self.project_text(self.read_end(tokens))

    def read_end(self, tokens: Tensor) -> Tensor:
        """Token ids (N, L) to what the tower makes of each row's end, (N, T)."""
        prefix, x = self._run(tokens)
        return text_global_pool(x, tokens[:, prefix.shape[1] :])

    def _run(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Token ids (N, L) to what the tower makes of the S that all rows begin with, (1, S, T),
        and of the others, (N, L - S, T), normed."""
        tower, length = self.text_tower, tokens.shape[1]
        shared = common_prefix(tokens)
        mask = tower.attn_mask[:length, :length]
        x = tower.token_embedding(tokens) + tower.positional_embedding[:length]
        x, prefix = x[:, shared:], x[:1, :shared]
        for block in map(CLIPBlock, tower.transformer.resblocks):
            prefix, keys, values = run_causal(block, prefix, mask[:shared, :shared])
            x, *_ = run_causal(block, x, mask[shared:], keys, values)
        return tower.ln_final(prefix), tower.ln_final(x)

    def project_text(self, tokens: Tensor) -> Tensor:
        return tokens @ self.text_tower.text_projection

    def set_logit(self, *, scale: float, bias: float) -> None:
        own = self.model.logit_bias
        if bias and own is None:
            name = type(self).__name__.removesuffix('Backbone')
            raise ValueError(f'logit_bias: expected 0, as this {name} has none, found {bias}')
        with torch.no_grad():
            self.model.logit_scale.fill_(math.log(scale))
            if own is not None:
                own.fill_(bias)

    @staticmethod
    def text_layers(layers: str) -> Tower:
        """open_clip fuses query, key and value into one parameter, which is no layer that peft can
        adapt, and reads ``out_proj.weight`` in its own forward without calling the layer."""
        return Tower(layers, MLP, tuple(MLP), fused=FUSED)


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


def is_causal(tower: nn.Module) -> bool:
    """Whether a text tower is what `CausalText` runs."""
    pool = tower.text_pool_type if isinstance(tower, CLIP) else tower.pool_type
    return (
        pool == 'argmax'
        and tower.attn_mask is not None
        and getattr(tower, 'cls_emb', None) is None
        and isinstance(tower.text_projection, nn.Parameter)
        and all(isinstance(block, ResidualAttentionBlock) for block in tower.transformer.resblocks)
    )

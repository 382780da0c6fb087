"""SAM's image encoder as a guide, https://arxiv.org/abs/2304.02643.

Shapes: B pictures of (H, W) pixels, SAM's input (S, S), its grid (h, w) of which a picture fills
(n_h, n_w), H heads, d per head.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from mmseg_siglip.device import made_on
from mmseg_siglip.models.guides.guide import Guide
from mmseg_siglip.models.guides.vit import normalised
from mmseg_siglip.models.sam.geometry import content_size, fit
from mmseg_siglip.models.sam.load import load_sam
from mmseg_siglip.registry import GUIDES


@dataclass(frozen=True)
class SAMAttention:
    """The last global attention of SAM's encoder over the part of its input that a picture fills.

    A row of it is softmaxed over SAM's whole input, so it sums to less than 1 where there is
    padding. What is kept is of the size of the tokens: rows are made when they are asked for.

    Attributes:
        queries: (H, n_h * n_w, d), scaled.
        keys: (H, h * w, d), of the whole input.
        values: (H, n_h * n_w, d).
        down: (H, n_h * n_w, h), relative positions' part in the logits, of rows.
        across: (H, n_h * n_w, w), of columns.
        grid: (n_h, n_w).
    """

    queries: Tensor
    keys: Tensor
    values: Tensor
    down: Tensor
    across: Tensor
    grid: tuple[int, int]

    def rows(self, first: int, last: int) -> Tensor:
        """Weights of some cells of the picture on all of its cells: (H, last - first, n_h*n_w)."""
        part = slice(first, last)
        logits = self.queries[:, part] @ self.keys.transpose(1, 2)
        logits = logits.unflatten(2, (self.down.shape[2], self.across.shape[2])).float()
        logits = logits + self.down[:, part, :, None] + self.across[:, part, None]
        weights = logits.flatten(2).softmax(-1).reshape(logits.shape)
        return weights[:, :, : self.grid[0], : self.grid[1]].flatten(2)


@GUIDES.register_module()
class SAMGuide(Guide):
    """What SAM's neck gives, for a picture stretched over SAM's square input.

    Args:
        pretrained: ``facebook/sam-vit-base``, a folder of transformers, or a file of the package
            segment-anything; see `load_sam`. SAM 2 has another encoder and is not taken.
        config: transformers' configuration of a SAM, for random weights.
        revision: Commit of a Hub id.

    Raises:
        ValueError: The checkpoint is of another kind, or lacks weights; or its last block attends
            within windows.
    """

    def __init__(
        self,
        pretrained: str | None = None,
        *,
        config: Mapping | None = None,
        revision: str | None = None,
    ) -> None:
        model, kind = load_sam(
            pretrained, kind='auto', config=config, revision=revision, attention='sdpa'
        )
        if kind == 'sam2':
            raise ValueError(f'{pretrained or "config"}: expected a SAM of kind sam, found sam2')
        super().__init__(model.vision_encoder)
        self.channels = self.model.config.output_channels

    @property
    def image_size(self) -> tuple[int, int]:
        """(S, S)."""
        return (self.model.config.image_size,) * 2

    @torch.no_grad()
    def forward(self, pixels: Tensor) -> Tensor:
        squashed = interpolate(pixels, size=self.image_size, mode='bilinear', antialias=True)
        with made_on(pixels):
            return self.model(normalised(squashed)).last_hidden_state

    @torch.no_grad()
    def attention(self, pixels: Tensor) -> SAMAttention:
        """The last attention over a picture (3, H, W), RGB in [0, 1], brought to SAM's input as SAM
        does, its longer side filled and the rest zeros.

        Raises:
            ValueError: The last block attends within windows.
        """
        with made_on(pixels):
            return self._attention(pixels)

    def _attention(self, pixels: Tensor) -> SAMAttention:
        model = self.model
        block = model.layers[-1]
        if block.window_size:
            raise ValueError(
                'expected a SAM whose last block attends over the whole picture, found windows of '
                f'{block.window_size} cells'
            )
        x = model.patch_embed(fit(normalised(pixels), self.image_size, 'pad')[None])
        x = x if model.pos_embed is None else x + model.pos_embed
        for layer in model.layers[:-1]:
            x = layer(x)
        grid, part = tuple(x.shape[1:3]), block.attn
        heads = part.num_attention_heads
        qkv = part.qkv(block.layer_norm1(x)).unflatten(-1, (3, heads, -1))
        q, k, v = qkv.squeeze(0).permute(2, 3, 0, 1, 4).float()  # (H, h, w, d) each
        filled = content_size(tuple(pixels.shape[-2:]), self.image_size, 'pad')
        own = tuple(max(1, side // model.config.patch_size) for side in filled)
        q, v = (tokens[:, : own[0], : own[1]] for tokens in (q, v))
        if part.use_rel_pos:
            tables = (
                part.get_rel_pos(side, side, table).float()
                for side, table in zip(grid, (part.rel_pos_h, part.rel_pos_w), strict=True)
            )
            down, across = next(tables)[: own[0]], next(tables)[: own[1]]
            down = torch.einsum('nhwd,hkd->nhwk', q, down).flatten(1, 2)
            across = torch.einsum('nhwd,wkd->nhwk', q, across).flatten(1, 2)
        else:
            down, across = (q.new_zeros(heads, own[0] * own[1], side) for side in grid)
        q = q * part.scale
        q, k, v = (tokens.flatten(1, 2) for tokens in (q, k, v))
        return SAMAttention(q, k, v, down, across, own)

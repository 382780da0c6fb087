"""What CLIP and SigLIP backbones share: images to taps and to dense joint-space features.

Shapes: B images of (H, W) pixels, patch side p, grid (h, w), P prefix tokens, C trunk channels,
D channels of the joint image-text space.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn.functional import pad
from torch.utils.checkpoint import checkpoint

from mmseg_siglip.models.dense.attention import ATTENTIONS, Block, DenseAttention, run_block


def patch_grid(size: tuple[int, int], patch: int, native: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of patches for an image of `size` (H, W).

    A side that `patch` does not divide is padded up, so that no pixel is lost. The one exception
    is a side equal to the checkpoint's own image size: there the grid is the one that it was
    trained with, rounded down (384 pixels in patches of 14 give 27).

    Raises:
        ValueError: A side is shorter than one patch.
    """
    if min(size) < patch:
        raise ValueError(
            f'expected an image of at least one patch ({patch}x{patch} pixels), '
            f'found {size[0]}x{size[1]} (height x width)'
        )
    return tuple(
        side // patch if side == trained else -(-side // patch)
        for side, trained in zip(size, native, strict=True)
    )


class VisionLanguageBackbone(BaseModule):
    """An image and a text encoder that share a space, opened up for dense prediction.

    Attributes, all read from the checkpoint's own configuration:
        image_size: (H, W) in pixels that the encoder was trained on.
        patch_size: Side of a patch, in pixels.
        hidden_size: C, channels of the taps.
        embed_dim: D, channels of the joint space.
        mean, std: Three values each, RGB, in units of 0..255.
        logit_scale: Factor on cosines, already exponentiated.
        logit_bias: Term added to scaled cosines; 0 where the encoder has none.
        num_layers: Blocks of the vision trunk.

    Args:
        out_indices: Blocks whose output `forward` returns, counted from 0; negatives count from
            the end.
        with_cp: Recompute blocks in the backward pass instead of storing their activations.
    """

    image_size: tuple[int, int]
    patch_size: int
    hidden_size: int
    embed_dim: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    num_prefix: int

    def __init__(self, *, out_indices: Sequence[int] = (-1,), with_cp: bool = False) -> None:
        super().__init__()
        self._requested_indices = tuple(out_indices)
        self.with_cp = with_cp

    def init_weights(self) -> None:
        """Do nothing: weights were set at construction.

        MMEngine would call the children's `init_weights`, and transformers' models have a method
        of that name which draws random weights.
        """

    @property
    def native_grid(self) -> tuple[int, int]:
        return tuple(side // self.patch_size for side in self.image_size)

    @property
    def num_layers(self) -> int:
        return len(self.blocks())

    @property
    def out_indices(self) -> tuple[int, ...]:
        """Tap positions, from 0, in the order asked for."""
        n = self.num_layers
        for index in self._requested_indices:
            if not -n <= index < n:
                raise ValueError(
                    f'out_indices: expected blocks from {-n} to {n - 1}, found {index}; '
                    f'the encoder has {n} blocks'
                )
        return tuple(index % n for index in self._requested_indices)

    @abstractmethod
    def blocks(self) -> list[Block]:
        """The vision trunk, first block first."""

    @abstractmethod
    def embed(self, images: Tensor, grid: tuple[int, int]) -> Tensor:
        """(B, 3, H, W), padded to patches, to tokens (B, P + h*w, C) with positions added."""

    @abstractmethod
    def dense(self, images: Tensor, *, attention: str = 'csa') -> Tensor:
        """Patch features in the joint space, not normalised.

        Args:
            images: (B, 3, H, W), normalised by `mean` and `std`.
            attention: A name of `mmseg_siglip.models.dense.attention.ATTENTIONS`.

        Returns:
            (B, D, h, w) with (h, w) from `patch_grid`; a patch covers p x p pixels from the top
            left, so the last row and column may reach past the image.
        """

    @abstractmethod
    def unread(self, last: DenseAttention) -> list[nn.Module]:
        """The parts that neither `trunk` with `last` nor ``project``, of its tokens, depends on."""

    @abstractmethod
    def encode_image(self, images: Tensor) -> Tensor:
        """The encoder's own pooled vector, not normalised: (B, 3, H, W) to (B, D)."""

    @abstractmethod
    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """Prompts to vectors of the joint space, not normalised: (N, D).

        Raises:
            ValueError: A prompt does not fit the encoder's context.
        """

    @abstractmethod
    def text_parameters(self) -> dict[str, Tensor]:
        """Every tensor that `encode_text` depends on, by name."""

    @abstractmethod
    def text_settings(self) -> dict[str, Any]:
        """What `encode_text` depends on and no tensor tells, such as the activation and the number
        of heads: plain values, the same wherever the weights lie."""

    def tokenizer_state(self) -> dict[str, int]:
        """The tokens that a checkpoint brings along, by id; empty where they are fixed."""
        return {}

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Trunk features after the blocks in `out_indices`.

        Args:
            images: (B, 3, H, W), normalised by `mean` and `std`.

        Returns:
            One (B, C, h, w) per index, before the trunk's final norm.
        """
        indices = self.out_indices
        x, grid = self.tokens(images)
        taps = {}
        for i, block in enumerate(self.blocks()[: max(indices) + 1]):
            x = self.run(block, x, ATTENTIONS['vanilla'], grid)
            if i in indices:
                taps[i] = self.to_map(x, grid)
        return tuple(taps[i] for i in indices)

    def tokens(self, images: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """(B, 3, H, W) to embedded tokens (B, N, C) and their grid."""
        size = tuple(images.shape[-2:])
        grid = patch_grid(size, self.patch_size, self.image_size)
        down, right = (max(n * self.patch_size - s, 0) for n, s in zip(grid, size, strict=True))
        return self.embed(pad(images, (0, right, 0, down)), grid), grid

    def trunk(self, images: Tensor, last: DenseAttention) -> tuple[Tensor, tuple[int, int]]:
        """Run all blocks, the final one with `last`: tokens (B, N, C) and their grid."""
        x, grid, _ = self.trunk_with_taps(images, last, ())
        return x, grid

    def trunk_with_taps(
        self, images: Tensor, last: DenseAttention, indices: Sequence[int]
    ) -> tuple[Tensor, tuple[int, int], tuple[Tensor, ...]]:
        """`trunk`, and what the blocks in `indices` (from 0) gave, each (B, C, h, w)."""
        x, grid = self.tokens(images)
        *body, final = self.blocks()
        taps = {}
        for i, block in enumerate(body):
            x = self.run(block, x, ATTENTIONS['vanilla'], grid)
            if i in indices:
                taps[i] = self.to_map(x, grid)
        x = self.run(final, x, last, grid)
        taps[len(body)] = self.to_map(x, grid)
        return x, grid, tuple(taps[i] for i in indices)

    def run(self, block: Block, x: Tensor, method: DenseAttention, grid: tuple[int, int]) -> Tensor:
        def call(x: Tensor) -> Tensor:
            return run_block(block, x, method, grid=grid, num_prefix=self.num_prefix)

        if self.with_cp and torch.is_grad_enabled():
            return checkpoint(call, x, use_reentrant=False)
        return call(x)

    def to_map(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        """(B, P + h*w, C) to (B, C, h, w)."""
        return x[:, self.num_prefix :].transpose(1, 2).unflatten(2, grid)

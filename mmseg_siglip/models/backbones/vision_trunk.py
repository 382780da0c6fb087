"""The image side of an encoder, and the one loop over its blocks.

Shapes: B images of (H, W) pixels, patch side p, grid (h, w), P prefix tokens, N = P + h*w tokens,
C channels.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence

from torch import SymInt, Tensor
from torch.nn.functional import pad, pixel_unshuffle

from mmseg_siglip.models.backbones.block import Block, attend
from mmseg_siglip.models.backbones.tokens import Tokens
from mmseg_siglip.models.backbones.trunk import Method, Surroundings, Trunk, block_positions


def patch_grid(size: tuple[int, int], patch: int, native: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of patches for an image of `size` (H, W).

    A side that `patch` does not divide is padded up, so that no pixel is lost. The one exception
    is a side equal to the checkpoint's own image size: there the grid is the one that it was
    trained with, rounded down (384 pixels in patches of 14 give 27). Sides that are symbols, of a
    graph for any size, hold whole patches.

    Raises:
        ValueError: A side is shorter than one patch.
    """
    if any(isinstance(side, SymInt) for side in size):
        return tuple(side // patch for side in size)
    if min(size) < patch:
        raise ValueError(
            f'expected an image of at least one patch ({patch}x{patch} pixels), '
            f'found {size[0]}x{size[1]} (height x width)'
        )
    return tuple(
        side // patch if side == trained else -(-side // patch)
        for side, trained in zip(size, native, strict=True)
    )


def unfold_patches(images: Tensor, grid: tuple[int, int], patch: int) -> Tensor:
    """(B, 3, H, W) to (B, 3 * patch * patch, h, w), channels before pixels; what reaches beyond the
    patches of `grid` is left out."""
    if not any(isinstance(side, SymInt) for side in images.shape[2:]):
        images = images[..., : grid[0] * patch, : grid[1] * patch]
    return pixel_unshuffle(images, patch)


class VisionTrunk:
    """The image side of an encoder as blocks over tokens, and the one loop that runs them.

    Attributes:
        image_size: (H, W) in pixels that the encoder was trained on.
        patch_size: Side of a patch, in pixels.
        num_prefix: P.
        rotary: Whether a block asks where a patch lies, so that none may be left out.
        with_cp: Recompute blocks in the backward pass instead of storing their activations.
        attend: What blocks attend by where no method says otherwise.
    """

    image_size: tuple[int, int]
    patch_size: int
    num_prefix: int
    rotary: bool = False
    with_cp: bool = False
    attend: Callable[[Tensor, Tensor, Tensor], Tensor] = staticmethod(attend)

    @abstractmethod
    def blocks(self) -> list[Block]:
        """The trunk, first block first."""

    @abstractmethod
    def embed(self, images: Tensor, grid: tuple[int, int]) -> Tensor:
        """(B, 3, H, W), padded to patches, to tokens (B, P + h*w, C) with positions added."""

    @abstractmethod
    def norm(self, x: Tensor) -> Tensor:
        """The norm behind the last block, (..., C) to the same."""

    @property
    def native_grid(self) -> tuple[int, int]:
        return tuple(side // self.patch_size for side in self.image_size)

    @property
    def num_layers(self) -> int:
        return len(self.blocks())

    def tokens(self, images: Tensor) -> Tokens:
        """(B, 3, H, W) to what stands in front of the first block."""
        size = tuple(images.shape[-2:])
        grid = patch_grid(size, self.patch_size, self.image_size)
        down, right = (max(n * self.patch_size - s, 0) for n, s in zip(grid, size, strict=True))
        x = self.embed(pad(images, (0, right, 0, down)), grid)
        return Tokens(x, grid, self.num_prefix)

    def forward_intermediates(
        self,
        images: Tensor,
        indices: Sequence[int] = (),
        *,
        method: Method | None = None,
        prefix: bool = False,
        norm: bool = False,
        stop_early: bool = False,
        surroundings: Surroundings | None = None,
    ) -> tuple[Tokens | None, tuple[Tensor, ...]]:
        """Run the trunk, and hand out what some of its blocks give.

        Args:
            images: (B, 3, H, W), normalised.
            indices: Blocks from 0 or, negative, from the end.
            method: What gives the tokens at the end; the trunk as it was trained if None. It takes
                the place of the last block, whose tap is what the method gives. It gives tokens.
            prefix: Whether taps keep their prefix tokens, as (B, N, C); else they are maps.
            norm: Whether taps pass through the final norm.
            stop_early: Leave the blocks out that no tap needs, and with them the tokens.
            surroundings: What a method may ask for and the encoder does not know.

        Returns:
            The tokens behind the last block, before the final norm, or None, and one tap an index,
            in the order asked for: (B, C, h, w) or, with `prefix`, (B, N, C).

        Raises:
            ValueError: There is no such block.
        """
        wanted = block_positions(indices, self.num_layers)
        trunk = Trunk(self, images, surroundings=surroundings, keep=wanted)
        last = len(trunk.blocks) - 1
        end = None
        if not stop_early or last in wanted and method is not None:
            end = method(trunk) if method else Tokens(trunk.output(last), trunk.grid, trunk.prefix)
        taps = []
        for block in wanted:
            if block == last and end is not None:
                tap = end
            else:
                tap = Tokens(trunk.output(block), trunk.grid, trunk.prefix)
            tap = tap.replace(self.norm(tap.x)) if norm else tap
            taps.append(tap.x if prefix else tap.map)
        return None if stop_early else end, tuple(taps)

"""The encoder contract: what a vision-language encoder offers, and all that a system may ask of it.

Shapes: B images of (H, W) pixels, patch side p, grid (h, w), P prefix tokens, N = P + h*w tokens,
C trunk channels, D channels of the joint image-text space, L text tokens, T channels of the text
tower.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn.functional import pad

from mmseg_siglip.models.backbones.block import Block, Mix, attend, attend_plainly
from mmseg_siglip.models.backbones.tokens import Tokens
from mmseg_siglip.models.backbones.towers import Tower
from mmseg_siglip.models.backbones.trunk import (
    Method,
    Surroundings,
    Trunk,
    block_positions,
    build_method,
)

if TYPE_CHECKING:
    from mmseg_siglip.weights.source import Source


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
                the place of the last block, whose tap is what the method gives.
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


class VisionLanguageBackbone(VisionTrunk, BaseModule):
    """An image and a text encoder that share a space, opened up for dense prediction.

    An encoder is one file: a subclass, registered in ``MODELS``, that says by `recognises` which
    checkpoints are its own. What it lacks it refuses in a sentence.

    Attributes, all read from the checkpoint's own configuration:
        hidden_size: C, channels of the taps.
        embed_dim: D, channels of the joint space.
        text_width: T.
        mean, std: Three values each, RGB, in units of 0..255.
        logit_scale: Factor on cosines, already exponentiated.
        logit_bias: Term added to scaled cosines; 0 where the encoder has none.
        readouts: The ways of `project`, the default first.
        naflex: Whether images of any aspect are its habit, measured by their number of patches.
        model: The library's module that holds the weights.
        model_types: transformers' names of the kinds of model that it takes.
        idle: How the names of parameters end that neither dense features nor words depend on.

    Args:
        attention: Default of `dense`: a dense method's name or configuration.
        out_indices: Blocks whose output `forward` returns, counted from 0; negatives count from
            the end.
        with_cp: See `VisionTrunk`.
    """

    hidden_size: int
    embed_dim: int
    text_width: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    readouts: tuple[str, ...] = ('project',)
    naflex = False
    model: nn.Module
    model_types: tuple[str, ...] = ()
    idle: tuple[str, ...] = ('logit_scale', 'logit_bias')

    def __init__(
        self,
        *,
        attention: str | dict | Method = 'csa',
        out_indices: Sequence[int] = (-1,),
        with_cp: bool = False,
    ) -> None:
        super().__init__()
        self._requested_indices = tuple(out_indices)
        self.with_cp = with_cp
        self.has_text = True
        self.method = build_method(attention)

    def finish(self) -> None:
        """End a constructor: now that the encoder knows what it is, refuse a dense method that
        needs what it lacks."""
        self.method.check(self)
        self.eval()

    def init_weights(self) -> None:
        """Do nothing: weights were set at construction.

        MMEngine would call the children's `init_weights`, and transformers' models have a method
        of that name which draws random weights.
        """

    @classmethod
    @abstractmethod
    def recognises(cls, source: Source) -> bool:
        """Whether a checkpoint is of this kind, by its contents."""

    @property
    def out_indices(self) -> tuple[int, ...]:
        """Tap positions, from 0, in the order asked for."""
        return block_positions(self._requested_indices, self.num_layers, 'out_indices')

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Trunk features after the blocks in `out_indices`.

        Args:
            images: (B, 3, H, W), normalised by `mean` and `std`.

        Returns:
            One (B, C, h, w) per index, before the trunk's final norm.
        """
        return self.forward_intermediates(images, self.out_indices, stop_early=True)[1]

    def method_for(self, attention: str | dict | Method) -> Method:
        """A dense method that this encoder can work with.

        Raises:
            ValueError: There is none of that name, or it needs what the encoder has not.
        """
        method = build_method(attention)
        method.check(self)
        return method

    def dense(
        self,
        images: Tensor,
        *,
        attention: str | dict | Method | None = None,
        readout: str | None = None,
        surroundings: Surroundings | None = None,
    ) -> Tensor:
        """Patch features in the joint space, not normalised.

        Args:
            images: (B, 3, H, W), normalised by `mean` and `std`.
            attention: A dense method, its name or its configuration; the encoder's default if None.
            readout: See `project`.
            surroundings: See `forward_intermediates`.

        Returns:
            (B, D, h, w). Unless the method gives another grid, (h, w) is from `patch_grid`; a patch
            covers p x p pixels from the top left, so the last row and column may reach past the
            image.
        """
        method = self.method if attention is None else self.method_for(attention)
        tokens, _ = self.forward_intermediates(images, method=method, surroundings=surroundings)
        return self.project(tokens, readout=readout)

    @abstractmethod
    def project(
        self, tokens: Tokens, *, readout: str | None = None, mix: Mix | None = None
    ) -> Tensor:
        """Tokens behind the last block into the joint space.

        Args:
            tokens: (B, N, C), before the final norm.
            readout: One of `readouts`; the encoder's setting if None.
            mix: How an attention pooling head mixes patches, where there is one; by default not at
                all, so that each patch is read alone.

        Returns:
            (B, D, h, w), not normalised.
        """

    def check_readout(self, readout: str) -> str:
        """`readout`, if the encoder has it.

        Raises:
            ValueError: It has not.
        """
        if readout not in self.readouts:
            raise ValueError(
                f'unknown readout {readout!r}; expected one of {", ".join(self.readouts)}'
            )
        return readout

    @abstractmethod
    def unread(self, method: Method, *, readout: str | None = None) -> list[nn.Module]:
        """The parts of the trunk's last block and of what follows it that `project` of `method`'s
        tokens does not depend on."""

    @abstractmethod
    def summary(self, x: Tensor) -> Tensor:
        """Tokens behind the last block (B, N, C) to one vector of the trunk's width an image."""

    @abstractmethod
    def pool(self, x: Tensor) -> Tensor:
        """Tokens behind the last block (B, N, C) to the encoder's own vector, (B, D)."""

    def encode_image(self, images: Tensor) -> Tensor:
        """The encoder's own pooled vector, not normalised: (B, 3, H, W) to (B, D)."""
        return self.pool(self.forward_intermediates(images)[0].x)

    @abstractmethod
    def vision_parts(
        self, blocks: int, *, norm: bool, pooling: bool
    ) -> list[nn.Module | nn.Parameter]:
        """What the first `blocks` blocks depend on, and the final norm and `summary` if wanted."""

    @abstractmethod
    def pooling_parts(self) -> list[nn.Module]:
        """What only `summary` and `project` depend on: an attention pooling head."""

    @abstractmethod
    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """Prompts to vectors of the joint space, not normalised: (N, D).

        Raises:
            ValueError: A prompt does not fit the encoder's context, or the text tower is gone.
        """

    @abstractmethod
    def encode_text_tokens(self, texts: Sequence[str]) -> tuple[Tensor, Tensor, Tensor]:
        """Prompts to the text tower's tokens (N, L, T), which of them are no padding (N, L), and
        `encode_text`'s vectors (N, D)."""

    @abstractmethod
    def project_text(self, tokens: Tensor) -> Tensor:
        """Tokens of the text tower (N, L, T) into the joint space (N, L, D)."""

    @abstractmethod
    def is_text(self, name: str) -> bool:
        """Whether the tensor of `model` of that name is the text side's."""

    @abstractmethod
    def text_settings(self) -> dict[str, Any]:
        """What `encode_text` depends on and no tensor tells, such as the activation and the number
        of heads: plain values, the same wherever the weights lie."""

    def tokenizer_state(self) -> dict[str, int]:
        """The tokens that a checkpoint brings along, by id; empty where they are fixed."""
        return {}

    def text_parameters(self) -> dict[str, Tensor]:
        """Every tensor that `encode_text` depends on, by its name in `model`."""
        state = self.model.state_dict()
        return {name: value for name, value in state.items() if self.is_text(name)}

    def text_module_parameters(self) -> list[nn.Parameter]:
        """Those of `text_parameters` that can train."""
        return [value for name, value in self.model.named_parameters() if self.is_text(name)]

    @abstractmethod
    def towers(self) -> dict[str, Tower]:
        """``vision`` and ``text``: what LoRA and finetuning choose from."""

    @abstractmethod
    def set_logit(self, *, scale: float, bias: float) -> None:
        """Set factor and term of scaled cosines."""

    def logit_parameters(self) -> tuple[Tensor, Tensor]:
        """Factor, exponentiated, and term, 0-d each, with gradients where they train."""
        bias = getattr(self.model, 'logit_bias', None)
        scale = self.model.logit_scale.exp().squeeze()
        return scale, scale.new_zeros(()) if bias is None else bias.squeeze()

    @property
    def logit_scale(self) -> float:
        return self.logit_parameters()[0].item()

    @property
    def logit_bias(self) -> float:
        return self.logit_parameters()[1].item()

    def use_plain_attention(self) -> None:
        """Attend as it is written in both towers, see `attend_plainly`."""
        self.attend = attend_plainly

    def keep_vision(self, *, pooling: bool) -> None:
        """Become a vision-only encoder: the text side goes, and the pooling head unless wanted.

        What needs them is refused from then on.
        """
        self.has_text = False
        self.drop_text()
        if not pooling:
            self.drop_pooling()

    @abstractmethod
    def drop_text(self) -> None:
        """Let go of the text side's weights."""

    @abstractmethod
    def drop_pooling(self) -> None:
        """Let go of what only `summary` and `project` depend on, where it is a module."""

    def require_text(self) -> None:
        """Refuse a call that needs the text side where it is gone.

        Raises:
            ValueError: It is.
        """
        if not self.has_text:
            raise ValueError(
                f'expected an encoder with its text tower, found a {type(self).__name__} that was '
                'reduced to its vision side'
            )

    def to_pixels(self, images: Tensor) -> Tensor:
        """RGB in [0, 1] of normalised images (..., 3, H, W)."""
        mean, std = (images.new_tensor(values)[:, None, None] for values in (self.mean, self.std))
        return ((images * std + mean) / 255).clamp(0, 1)

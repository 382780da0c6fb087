"""The encoder contract: what a vision-language encoder offers, and all that a system may ask of it.

Shapes: B images of (H, W) pixels, patch side p, grid (h, w), N tokens, C trunk channels, D channels
of the joint image-text space, L text tokens, T channels of the text tower.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmseg_siglip.kept import channels
from mmseg_siglip.models.backbones.block import attend_plainly, beside, mask_bias, run_block
from mmseg_siglip.models.backbones.planes import Dense, whole
from mmseg_siglip.models.backbones.site import LastBlock, PoolingHead, Site
from mmseg_siglip.models.backbones.text_side import TextSide
from mmseg_siglip.models.backbones.tokens import Tokens
from mmseg_siglip.models.backbones.towers import Tower
from mmseg_siglip.models.backbones.trunk import (
    Method,
    Surroundings,
    Trunk,
    block_positions,
    build_method,
    method_name,
)
from mmseg_siglip.models.backbones.vision_trunk import VisionTrunk

if TYPE_CHECKING:
    from mmseg_siglip.weights.source import Source


class VisionLanguageBackbone(VisionTrunk, TextSide, BaseModule):
    """An image and a text encoder that share a space, opened up for dense prediction.

    An encoder is one file: a subclass, registered in ``MODELS``, that says by `recognises` which
    checkpoints are its own. What it lacks it refuses in a sentence.

    Attributes, all read from the checkpoint's own configuration:
        hidden_size: C, channels of the taps.
        embed_dim: D, channels of the joint space.
        mean, std: Three values each, RGB, in units of 0..255.
        readouts: The ways of `project`, the default first.
        pools_by_attention: Whether it is an `AttentionPooled`.
        naflex: Whether images of any aspect are its habit, measured by their number of patches.
        model: The library's module that holds the weights.
        model_types: transformers' names of the kinds of model that it takes.
        summary_token: Which of the prefix tokens `pool` reads, where it reads one.
        idle: How the names of parameters end that neither dense features nor words depend on.

    Args:
        attention: Default of `dense`: a dense method's name or configuration.
        out_indices: Blocks whose output `forward` returns, counted from 0; negatives count from
            the end.
        with_cp: See `VisionTrunk`.
    """

    hidden_size: int
    embed_dim: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    readouts: tuple[str, ...] = ('project',)
    pools_by_attention = False
    naflex = False
    model: nn.Module
    model_types: tuple[str, ...] = ()
    summary_token = 0
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
        self.has_text = self.has_pooling = True
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

    @property
    def attention(self) -> str:
        """The name of the default dense method."""
        return method_name(self.method)

    def method_for(self, attention: str | dict | Method) -> Method:
        """A dense method that this encoder can work with.

        Raises:
            ValueError: There is none of that name, or it needs what the encoder has not.
        """
        method = build_method(attention)
        method.check(self)
        return method

    def trunk(
        self, images: Tensor, *, surroundings: Surroundings | None = None, **reading: str | None
    ) -> Trunk:
        """Images (B, 3, H, W), normalised, on their way to the joint space.

        Args:
            images: The images.
            surroundings: See `Surroundings`.
            reading: ``readout``, and ``site`` where there is a choice; see `dense`.

        Raises:
            ValueError: The encoder reads in no such way.
        """
        self.require_pooling()
        surroundings = replace(surroundings or Surroundings(), **self.reading(**reading))
        return Trunk(self, images, surroundings=surroundings)

    def reading(self, *, readout: str | None = None) -> dict[str, str]:
        """How patches are read, by the fields of `Surroundings`: the encoder's settings, and what
        is given in their place."""
        return dict(readout=self.check_readout(readout or self.readouts[0]))

    def site_for(self, method: Method, **reading: str | None) -> str:
        """Where a method's attention goes; see `dense` for `reading`."""
        self.reading(**reading)
        return 'trunk'

    def site_of(self, trunk: Trunk) -> Site:
        """See `Trunk.last`."""
        return LastBlock(trunk)

    def head_of(self, trunk: Trunk) -> PoolingHead | None:
        """See `Trunk.head`."""

    def features_of(self, trunk: Trunk, method: Method) -> Dense:
        """What a method of `method_for` gives, in the joint space and not normalised, (B, D, h, w);
        see `dense`. Of a method that gives scores, maybe `Planes` of each element.

        Raises:
            ValueError: The method does not work at the place that `trunk` says.
        """
        if trunk.surroundings.site not in method.sites:
            raise ValueError(
                f'site {trunk.surroundings.site!r}: {method_name(method)!r} works on '
                f'{" or ".join(map(repr, method.sites))}'
            )
        found = method(trunk)
        return trunk.project(found) if isinstance(found, Tokens) else found

    def dense(
        self,
        images: Tensor,
        *,
        attention: str | dict | Method | None = None,
        surroundings: Surroundings | None = None,
        **reading: str | None,
    ) -> Tensor:
        """Patch features in the joint space, not normalised.

        Args:
            images: (B, 3, H, W), normalised by `mean` and `std`. Without `surroundings` that say
                whose windows they are, each is an image of its own.
            attention: A dense method, its name or its configuration; the encoder's default if None.
            surroundings: See `trunk`.
            reading: ``readout``, see `project`, and where the encoder has a choice ``site``, see
                `AttentionPooled`.

        Returns:
            (B, D, h, w). Unless the method gives another grid, (h, w) is from `patch_grid`; a patch
            covers p x p pixels from the top left, so the last row and column may reach past the
            image.

        Raises:
            ValueError: The encoder cannot do it so, or the method needs what is not there.
        """
        method = self.method if attention is None else self.method_for(attention)
        apart = method.scope == 'image' and not (surroundings and surroundings.views)
        parts = [
            self.features_of(self.trunk(part, surroundings=surroundings, **reading), method)
            for part in (images.split(1) if apart else [images])
        ]
        return torch.cat([part if isinstance(part, Tensor) else whole(part) for part in parts])

    @abstractmethod
    def project(self, tokens: Tokens, *, readout: str | None = None) -> Tensor:
        """Tokens behind the last block into the joint space, each read alone.

        Args:
            tokens: (B, N, C), before the final norm.
            readout: One of `readouts`; the encoder's setting if None.

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

    def open_for_regions(self, trunk: Trunk) -> None:
        """Have a trunk keep what `region_vectors` will ask for, so that none is computed twice."""
        trunk.open(range(len(trunk.blocks) - 1))

    def region_vectors(self, trunk: Trunk, masks: Tensor) -> Tensor:
        """The encoder's own vector of parts of an image, not normalised.

        Here each region has a copy of `summary_token` that runs beside the blocks and sees the
        prefix tokens and its own patches alone, not itself (CorrCLIP,
        https://arxiv.org/abs/2411.10086); no other token sees it.

        Args:
            trunk: B images in the encoder.
            masks: (B, R, h*w) bool, or weights in [0, 1] that its attention to a patch is
                multiplied by. A region without patches gets the vector of all of them.

        Returns:
            (B, R, D).

        Raises:
            ValueError: The encoder has no CLS token.
        """
        self.require_pooling()
        if not self.num_prefix:
            raise ValueError(
                'expected an encoder with a CLS token or a pooling head, found a '
                f'{type(self).__name__}'
            )
        bias = mask_bias(masks, self.num_prefix, trunk.embedded.x)
        token = self.summary_token
        x = trunk.embedded.x[:, [token]].expand(-1, masks.shape[1], -1)
        for i, block in enumerate(trunk.blocks):
            _, k, v = trunk.opened(i)
            x = run_block(block, x, beside(k, v, bias), grid=trunk.grid)
        alone = x.flatten(0, 1)[:, None].expand(-1, token + 1, -1)
        return self.pool(alone).unflatten(0, x.shape[:2])

    def encode_image(self, images: Tensor) -> Tensor:
        """The encoder's own pooled vector, not normalised: (B, 3, H, W) to (B, D)."""
        self.require_pooling()
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
    def towers(self) -> dict[str, Tower]:
        """``vision`` and ``text``: what LoRA and finetuning choose from."""

    def layers_of(self, tower: str) -> nn.ModuleList:
        """The layers of one of `towers`."""
        return self.model.get_submodule(self.towers()[tower].layers)

    def use_plain_attention(self) -> None:
        """Attend as it is written in both towers, see `attend_plainly`."""
        self.attend = attend_plainly

    def keep_vision(self, *, pooling: bool) -> None:
        """Become a vision-only encoder: the text side goes, and the pooling head unless wanted.

        What needs them is refused from then on.
        """
        self.has_text = False
        self.drop_text()
        self.has_pooling = pooling
        if not pooling:
            self.drop_pooling()

    @abstractmethod
    def drop_pooling(self) -> None:
        """Let go of what only `summary` and `project` depend on, where it is a module."""

    def require_pooling(self) -> None:
        """Refuse a call that leads into the joint space where the way is gone.

        Raises:
            ValueError: It is.
        """
        if not self.has_pooling:
            raise ValueError(
                f'expected an encoder with its way into the joint space, found a '
                f'{type(self).__name__} that was reduced to its trunk'
            )

    def save_pretrained(self, folder: str | Path) -> None:
        """Write a checkpoint of transformers.

        Raises:
            ValueError: The encoder is none of its models.
        """
        raise ValueError(
            f"{folder}: expected an encoder of transformers' to write in its format, found a "
            f'{type(self).__name__}'
        )

    def to_pixels(self, images: Tensor) -> Tensor:
        """RGB in [0, 1] of normalised images (..., 3, H, W)."""
        mean, std = channels(self.mean, images), channels(self.std, images)
        return ((images * std + mean) / 255).clamp(0, 1)

    def from_pixels(self, pixels: Tensor) -> Tensor:
        """Normalised images of RGB in [0, 1] (..., 3, H, W)."""
        mean, std = channels(self.mean, pixels), channels(self.std, pixels)
        return (pixels * 255 - mean) / std

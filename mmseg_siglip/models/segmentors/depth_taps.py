"""What a depth decoder reads from an encoder: four blocks, and a vector for the whole image.

Shapes: B images (H, W), C channels, grid (h, w).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmseg_siglip.models.backbones.base import VisionLanguageBackbone
from mmseg_siglip.models.backbones.tokens import Tokens
from mmseg_siglip.models.backbones.vision_trunk import patch_grid
from mmseg_siglip.models.decode_heads.dpt_blocks import Tap

TAP_NORMS = ('none', 'post_ln', 'per_tap')
TAP_READOUTS = ('pooled', 'cls')


def default_taps(num_layers: int) -> tuple[int, ...]:
    """The last block of each quarter: 12 blocks give 2, 5, 8, 11; 27 give 6, 13, 20, 26."""
    return tuple(-(-k * num_layers // 4) - 1 for k in (1, 2, 3, 4))


def check_taps(tap_layers: Sequence[int], num_layers: int) -> tuple[int, ...]:
    """Tap positions from 0, in the order given.

    Raises:
        ValueError: There are not four, one is not in the encoder, or they are out of order.
    """
    if len(tap_layers) != 4:
        raise ValueError(f'tap_layers: expected 4 blocks, found {len(tap_layers)}')
    for tap in tap_layers:
        if not -num_layers <= tap < num_layers:
            raise ValueError(
                f'tap_layers: expected blocks from {-num_layers} to {num_layers - 1}, found {tap}; '
                f'the encoder has {num_layers} blocks'
            )
    taps = tuple(tap % num_layers for tap in tap_layers)
    if list(taps) != sorted(taps):
        raise ValueError(
            f'tap_layers: expected the earliest block first, found {tuple(tap_layers)}'
        )
    return taps


class DepthTaps(nn.Module):
    """Runs an encoder's blocks and hands out taps, normed, and with a readout vector if wanted.

    The backbone is not a child of this module, so that its parameters have one name.

    Args:
        backbone: The encoder.
        tap_layers: Blocks, see `check_taps`; `default_taps` if not given.
        tap_norm: ``none``; ``post_ln``, the encoder's final norm on every tap; ``per_tap``, a norm
            of its own for each.
        with_readout: Whether each tap comes with a vector for the whole image.
        tap_readout: That of the encoder's pooling head, ``pooled``, the same for all taps, which
            takes all blocks to compute; or each tap's own CLS token, ``cls``.

    Raises:
        ValueError: A value is unknown or out of range.
    """

    learnt_with = ('layers', 'tap_norm', 'reads_cls')

    def __init__(
        self,
        backbone: VisionLanguageBackbone,
        *,
        tap_layers: Sequence[int] | None = None,
        tap_norm: str = 'post_ln',
        with_readout: bool = False,
        tap_readout: str = 'pooled',
    ) -> None:
        super().__init__()
        for name, value, allowed in (
            ('tap_norm', tap_norm, TAP_NORMS),
            ('tap_readout', tap_readout, TAP_READOUTS),
        ):
            if value not in allowed:
                raise ValueError(f'{name}: expected one of {", ".join(allowed)}, found {value!r}')
        self.reads_cls = with_readout and tap_readout == 'cls'
        self.pools = with_readout and not self.reads_cls
        if self.reads_cls and not backbone.num_prefix:
            raise ValueError(
                "tap_readout 'cls': expected an encoder with a CLS token, found a "
                f'{type(backbone).__name__}'
            )
        blocks = backbone.num_layers
        self.layers = check_taps(default_taps(blocks) if tap_layers is None else tap_layers, blocks)
        self.tap_norm = tap_norm
        if tap_norm == 'per_tap':
            width = backbone.hidden_size
            self.norms = nn.ModuleList(nn.LayerNorm(width, eps=1e-6) for _ in self.layers)

    def used(self, backbone: VisionLanguageBackbone) -> list[nn.Module | nn.Parameter]:
        """The parts of the encoder that the taps depend on."""
        return backbone.vision_parts(
            backbone.num_layers if self.pools else max(self.layers) + 1,
            norm=self.tap_norm == 'post_ln',
            pooling=self.pools,
        )

    def forward(
        self, backbone: VisionLanguageBackbone, images: Tensor, *, frozen: bool
    ) -> list[Tap]:
        """(B, 3, H, W), normalised, to four (B, C, h, w), or pairs with a (B, C) each.

        If `frozen`, nothing of the encoder gets a gradient, and nothing is kept for one.
        """
        with torch.set_grad_enabled(torch.is_grad_enabled() and not frozen):
            tokens, taps = backbone.forward_intermediates(
                images,
                self.layers,
                prefix=self.reads_cls,
                norm=self.tap_norm == 'post_ln',
                stop_early=not self.pools,
            )
            pooled = backbone.summary(tokens.x) if self.pools else None
        if self.tap_norm == 'per_tap':
            axis = -1 if self.reads_cls else 1
            taps = [
                norm(x.movedim(axis, -1)).movedim(-1, axis)
                for norm, x in zip(self.norms, taps, strict=True)
            ]
        if self.reads_cls:
            size = tuple(images.shape[-2:])
            grid = patch_grid(size, backbone.patch_size, backbone.image_size)
            return [(Tokens(x, grid, backbone.num_prefix).map, x[:, 0]) for x in taps]
        return list(taps) if pooled is None else [(x, pooled) for x in taps]

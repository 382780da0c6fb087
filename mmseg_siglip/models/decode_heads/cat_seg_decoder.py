"""CAT-Seg's decoder: each class's map to four times the grid, led by features of the encoder.

CAT-Seg, https://arxiv.org/abs/2303.11797.

Shapes: B images, T classes, M = B*T maps, grid (h, w), C channels in, O out, G of guidance.

A transposed convolution of stride 2 followed by a 3 x 3 convolution is linear, so both are one
convolution of 2 x 2 for each of the four phases of an output pixel: it never makes the map in
between and takes less than half of the arithmetic. What the guidance and the bias of the transposed
convolution add is the same for all classes of an image and is computed once an image.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d

from mmseg_siglip.kept import constant
from mmseg_siglip.models.decode_heads.cat_seg_class_attention import to_maps
from mmseg_siglip.models.decode_heads.chunks import in_chunks

CHUNK = 2**15
"""Places of the finest grid that are worked on at a time where no gradients are wanted."""

# PHASE[a, u, e, p] is 1 where row 2i + a, seen through row u - 1 of the convolution, is row p of
# what the transposed convolution makes of row i + e + a - 1 of its input.
PHASE = tuple(
    tuple(
        tuple(tuple(float(row == 2 * (e + a - 1) + p) for p in (0, 1)) for e in (0, 1))
        for row in range(a - 1, a + 2)
    )
    for a in (0, 1)
)


def folded_kernel(up: Tensor, conv: Tensor) -> Tensor:
    """One kernel for a transposed 2 x 2 convolution of stride 2 and a 3 x 3 convolution after it.

    Args:
        up: (C, K, 2, 2), weight of the transposed convolution.
        conv: (O, K, 3, 3), weight of the convolution.

    Returns:
        (4*O, C, 2, 2), the phases (0, 0), (0, 1), (1, 0), (1, 1) of the output one after another.
    """
    with torch.autocast(up.device.type, enabled=False):
        both = torch.einsum('okuv,ckpq->ocuvpq', conv, up)
        phase = constant(PHASE, dtype=both.dtype, device=both.device)
        both = torch.einsum('ocuvpq,auep->ocvqae', both, phase)
        return torch.einsum('ocvqae,bvfq->abocef', both, phase).flatten(0, 2)


class Up(nn.Module):
    """Twice the size, then two convolutions with group norm.

    Args:
        channels: C, and the width of the concatenation with the guidance.
        out_channels: O.
        guidance_channels: G.
    """

    def __init__(self, channels: int, out_channels: int, guidance_channels: int) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(channels, channels - guidance_channels, 2, stride=2)
        self.conv1 = nn.Conv2d(channels, out_channels, 3, padding=1, bias=False)
        self.norm1 = nn.GroupNorm(max(out_channels // 16, 1), out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.norm2 = nn.GroupNorm(max(out_channels // 16, 1), out_channels)

    def guide(self, guidance: Tensor) -> Tensor:
        """What all maps of an image get: (B, G, 2h, 2w) to (B, O, 2h, 2w)."""
        bias = self.up.bias.to(guidance.dtype)[:, None, None]
        bias = bias.expand(len(guidance), -1, *guidance.shape[-2:])
        return conv2d(torch.cat([bias, guidance], dim=1), self.conv1.weight, padding=1)

    def kernel(self) -> Tensor:
        """See `folded_kernel`."""
        return folded_kernel(self.up.weight, self.conv1.weight[:, : self.up.out_channels])

    def forward(self, x: Tensor, guide: Tensor, kernel: Tensor) -> Tensor:
        """(M, C, h, w) to (M, O, 2h, 2w).

        Args:
            x: Maps, the classes of an image side by side.
            guide: (B, O, 2h, 2w), from `guide`.
            kernel: From `kernel`.
        """
        batch, (h, w) = len(guide), x.shape[-2:]
        phases = conv2d(x, kernel, padding=1).unflatten(1, (2, 2, -1))
        shifted = [
            [phases[:, a, b, :, a : a + h, b : b + w].permute(0, 2, 3, 1) for b in (0, 1)]
            for a in (0, 1)
        ]
        rows = [torch.stack(row, dim=3) for row in shifted]  # (M, h, w, 2, O)
        y = torch.stack(rows, dim=2).flatten(3, 4).flatten(1, 2)  # (M, 2h, 2w, O)
        y = y.unflatten(0, (batch, -1)) + guide.permute(0, 2, 3, 1)[:, None]
        y = to_maps(y)
        y = self.norm1(y).relu()
        return self.norm2(self.conv2(y)).relu()


class Decoder(nn.Module):
    """Two steps up, with guidance from the encoder at each.

    Args:
        channels: C.
        widths: O of each step.
        guidance_widths: Channels of the guidance of each step, as it comes in.
        guidance_proj_widths: G of each step.
    """

    scale = 4

    def __init__(
        self,
        channels: int,
        *,
        widths: tuple[int, int] = (64, 32),
        guidance_widths: tuple[int, int] = (256, 128),
        guidance_proj_widths: tuple[int, int] = (32, 16),
    ) -> None:
        super().__init__()
        self.guidance_projections = nn.ModuleList(
            nn.Sequential(nn.Conv2d(wide, narrow, 3, padding=1), nn.ReLU())
            for wide, narrow in zip(guidance_widths, guidance_proj_widths, strict=True)
        )
        entries = (channels, *widths[:-1])
        self.steps = nn.ModuleList(
            Up(*sizes) for sizes in zip(entries, widths, guidance_proj_widths, strict=True)
        )
        self.out = nn.Conv2d(widths[-1], 1, 3, padding=1)

    def forward(
        self, x: Tensor, guidance: tuple[Tensor, Tensor], *, with_cp: bool = False
    ) -> Tensor:
        """Maps to logits: (B, T, h, w, C) to (B, T, 4h, 4w).

        Args:
            x: Maps.
            guidance: (B, 256, 2h, 2w) and (B, 128, 4h, 4w), by the default widths.
            with_cp: See `in_chunks`.
        """
        batch, height, width = len(x), *x.shape[2:4]
        guides = [
            step.guide(project(g))
            for step, project, g in zip(
                self.steps, self.guidance_projections, guidance, strict=True
            )
        ]
        kernels = [step.kernel() for step in self.steps]

        def decode(x: Tensor) -> Tensor:
            y = to_maps(x)
            for step, guide, kernel in zip(self.steps, guides, kernels, strict=True):
                y = step(y, guide, kernel)
            return self.out(y)[:, 0].unflatten(0, (batch, -1))

        maps = CHUNK // (batch * 16 * height * width)
        return in_chunks(decode, x, dim=1, size=maps, with_cp=with_cp)

"""Where in an image the words of a phrase are, by the encoder's own similarity.

RSRefSeg, https://arxiv.org/abs/2501.06809. With V the patches, T_d the tokens of a phrase, t its
pooled vector, s and b the encoder's logit scale and bias, and hats for unit length:

    local   a_d = sigmoid(s <V, T_d> + b),  V_loc = (V + mean_d(a_d) V) / 2
    global  g = s <V, t> + b,               V_glb = sigmoid(g) V
    F = W [V_loc, V_glb, V]

The mean is over the phrase's real tokens: padding says nothing about it.

Shapes: B images, R phrases of them (rows), L tokens, C channels of patches, D of the space in
which patches and words are compared, E channels of the result, grid (h, w).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, normalize


@dataclass(frozen=True)
class ImageFeatures:
    """What the encoder says of B images of one grid.

    Attributes:
        patches: V, (B, C, h, w).
        similar: (B, D, h, w), patches where words can be compared with them.
        taps: Further (B, C, h, w), of other depths.
        coverage: Part of the images' height and width that the grid spans from the top left.
    """

    patches: Tensor
    similar: Tensor
    taps: tuple[Tensor, ...] = ()
    coverage: tuple[float, float] = (1.0, 1.0)


@dataclass(frozen=True)
class TextFeatures:
    """What the encoder says of R phrases.

    Attributes:
        tokens: (R, L, C'), the text tower's.
        similar: (R, L, D), tokens where patches can be compared with them.
        real: (R, L) bool, no padding.
        pooled: t, (R, D).
    """

    tokens: Tensor
    similar: Tensor
    real: Tensor
    pooled: Tensor

    def __getitem__(self, rows: slice | Tensor) -> TextFeatures:
        return TextFeatures(
            self.tokens[rows], self.similar[rows], self.real[rows], self.pooled[rows]
        )


class TextVisualActivation(nn.Module):
    """Patches with the phrase's activations, mixed down to the prompts' width.

    W is applied before the activations, which are one number a patch: its cost is that of the
    images, not of the phrases, and the result the same.

    Args:
        in_channels: C.
        out_channels: E.
        num_taps: How many further depths are mixed in, as they are.
    """

    def __init__(self, in_channels: int, out_channels: int, *, num_taps: int = 0) -> None:
        super().__init__()
        self.mix = nn.Conv2d((3 + num_taps) * in_channels, out_channels, 1, bias=False)

    def forward(
        self,
        image: ImageFeatures,
        text: TextFeatures,
        rows: Tensor,
        *,
        scale: float | Tensor,
        bias: float | Tensor,
    ) -> tuple[Tensor, Tensor]:
        """F (R, E, h, w) and g (R, h, w).

        Args:
            image: Of B images.
            text: Of R phrases.
            rows: (R,), each phrase's image.
            scale: s.
            bias: b.
        """
        local, evidence = activations(image.similar, text, rows, scale=scale, bias=bias)
        channels = image.patches.shape[1]
        local_w, global_w, plain_w, *tap_w = self.mix.weight.split(channels, dim=1)
        plain = conv2d(image.patches, plain_w)
        for weight, tap in zip(tap_w, image.taps, strict=True):
            plain = plain + conv2d(tap, weight)
        fused = conv2d(image.patches, local_w)[rows] * (1 + local[:, None]) / 2
        fused = fused + conv2d(image.patches, global_w)[rows] * evidence.sigmoid()[:, None]
        return fused + plain[rows], evidence


def activations(
    similar: Tensor,
    text: TextFeatures,
    rows: Tensor,
    *,
    scale: float | Tensor,
    bias: float | Tensor,
) -> tuple[Tensor, Tensor]:
    """Mean of a_d over each phrase's tokens, in (0, 1), and the logits g: (R, h, w) each.

    Args:
        similar: (B, D, h, w).
        text: Of R phrases.
        rows: (R,), each phrase's image.
        scale: s.
        bias: b.
    """
    with torch.autocast(similar.device.type, enabled=False):
        patches = normalize(similar.float(), dim=1).flatten(2)[rows]  # (R, D, h*w)
        tokens = normalize(text.similar.float(), dim=-1)
        pooled = normalize(text.pooled.float(), dim=-1)[:, None]
        a = (scale * tokens @ patches + bias).sigmoid()
        real = text.real[..., None].to(a.dtype)
        local = (a * real).sum(1) / real.sum(1).clamp(min=1)
        evidence = (scale * pooled @ patches + bias)[:, 0]
    grid = similar.shape[-2:]
    return local.unflatten(1, grid), evidence.unflatten(1, grid)

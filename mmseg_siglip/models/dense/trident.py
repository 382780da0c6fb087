"""Trident, https://arxiv.org/abs/2411.09219.

Shapes: n windows, patch side p, encoder's grid (h, w), spliced map (h_s, w_s) of the whole picture
(H, W), SAM's cells of it (n_h, n_w), S heads of SAM's, C channels, D joint channels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from mmseg_siglip.device import at_once
from mmseg_siglip.models.backbones.block import CHUNK_BYTES
from mmseg_siglip.models.backbones.trunk import Trunk
from mmseg_siglip.models.backbones.vision_trunk import patch_grid
from mmseg_siglip.models.dense.correlation import mean_cosine, proxy, share_values
from mmseg_siglip.models.dense.guided import Guided, pictured
from mmseg_siglip.models.guides import SAMAttention, build_guide
from mmseg_siglip.models.windows.stitch import resize_side
from mmseg_siglip.precision import autocast
from mmseg_siglip.registry import DENSE_METHODS

DINO = dict(type='DINOGuide', pretrained='facebook/dino-vitb16')
SAM = dict(type='SAMGuide', pretrained='facebook/sam-vit-base')
MOST, FLOOR = 0.9, 0.6
SLIDE = dict(crop_size=336, stride=224, logit_scale=40, method=dict(sharpness=1.2, negative=True))
POSITIVE = dict(sharpness=1.2, negative=False)
PUBLISHED = dict(
    voc21=dict(SLIDE, short_side=448, prob_thd=0.2, area_thd=None),
    voc20=dict(SLIDE, short_side=336, stride=112, method=dict(sharpness=0.0, negative=True)),
    context60=dict(SLIDE, short_side=576, prob_thd=0.15),
    context59=dict(SLIDE, short_side=576),
    coco_object=dict(SLIDE, short_side=448, prob_thd=0.25),
    coco_stuff=dict(SLIDE, short_side=448),
    cityscapes=dict(SLIDE, short_side=688, method=dict(sharpness=3.0, negative=False, columns=2)),
    ade20k=dict(SLIDE, short_side=576, method=POSITIVE),
    ade847=dict(SLIDE, short_side=448),
    context459=dict(SLIDE, short_side=448),
)
"""Settings of https://github.com/YuHengsss/Trident for OpenAI's B/16, DINO B/16 and SAM-B."""
COARSE_THD = dict(
    voc21=0.2,
    voc20=0.2,
    context60=0.15,
    context59=0.15,
    coco_object=0.25,
    coco_stuff=0.05,
    cityscapes=0.1,
    ade20k=0.05,
    ade847=0.2,
    context459=0.2,
)
"""``coarse_thd`` of `SAMRefine` for each data set."""


@DENSE_METHODS.register_module(name='trident')
class Trident(Guided):
    """ProxyCLIP's windows, spliced into one map of the picture, and there mixed by SAM.

    In every window A is ProxyCLIP's, with the mean over all windows of the picture. What the output
    projection gives is spliced on the picture's patches, brought to SAM's cells, and mixed by
    B_ij = the mean over SAM's heads of [C_ij > t_i] P_ij, rows brought to a sum of 1: P SAM's last
    attention, C the cosines of its values, t_i = min(`sharpness` * mean of C_i, 0.9).

    The published code rounds a picture up to whole patches and to at least a window; here what
    reaches past the picture is cut off before SAM's cells are filled. It reads the picture for SAM
    from disk; here SAM sees the one that is segmented, at its size.

    Args:
        guide: See `Guided`; DINO B/16 is published.
        sam: A `SAMGuide`, its configuration or itself.
        beta: See `ProxyCLIP`.
        gamma: See `ProxyCLIP`.
        sharpness: See above, the published ``cos_fac``.
        negative: Whether a t_i below 0 stays, else it is 0.6; the published ``refine_neg_cos``.
        columns: Parts side by side that SAM sees one at a time; 2 in Cityscapes.

    Raises:
        ValueError: `sam` is no `SAMGuide`, or `columns` below 1.
    """

    scope = 'image'
    whole = True

    def __init__(
        self,
        guide: str | Mapping | nn.Module = DINO,
        sam: str | Mapping | nn.Module = SAM,
        *,
        beta: float = 1.2,
        gamma: float = 3.0,
        sharpness: float = 1.2,
        negative: bool = True,
        columns: int = 1,
    ) -> None:
        if columns < 1:
            raise ValueError(f'trident: expected columns of 1 or more, found {columns}')
        super().__init__(guide)
        self.sam = build_guide(sam)
        if not hasattr(self.sam, 'attention'):
            raise ValueError(f'trident: expected sam a SAMGuide, found {type(self.sam).__name__}')
        self.beta, self.gamma, self.columns = beta, gamma, columns
        self.sharpness, self.negative = sharpness, negative

    def prepare(self, pixels: Tensor) -> list[SAMAttention]:
        """SAM's last attention over each part of a picture."""
        width = pixels.shape[-1]
        part = -(-width // self.columns)
        starts = [min(i * part, width - part) for i in range(self.columns)]
        return [self.sam.attention(pixels[..., start : start + part]) for start in starts]

    def forward(self, trunk: Trunk) -> Tensor:
        if not trunk.prepared:
            raise ValueError(
                'trident: expected the whole image beside its windows, which a segmentor has; '
                "without it use 'proxyclip'"
            )
        spliced = self.spliced(trunk)
        parts: Sequence[SAMAttention] = trunk.prepared[0]
        grid = parts[0].grid[0], sum(part.grid[1] for part in parts)
        extent, patch = trunk.extent, trunk.encoder.patch_size
        span = tuple(n * patch for n in patch_grid(extent, patch, trunk.encoder.image_size))
        with autocast('fp32', spliced.device):
            seen = shown(spliced.float(), grid, extent, span)
            mixed = torch.cat(
                [
                    self.by_sam(part, cells)
                    for part, cells in zip(
                        parts, seen.split([p.grid[1] for p in parts], dim=-1), strict=True
                    )
                ],
                dim=-1,
            )
            mixed = shown(mixed, grid, span, extent)
        return trunk.last.read(mixed.flatten(2).transpose(1, 2), grid)

    def spliced(self, trunk: Trunk) -> Tensor:
        """What the output projection gives, of the whole picture: (1, C, h_s, w_s)."""
        seen = self.look(trunk)
        mean = mean_cosine(seen.x).mean()

        def weigh(cosines: Tensor, windows: slice, queries: slice) -> Tensor:
            return proxy(cosines, mean, beta=self.beta, gamma=self.gamma, first=queries.start)

        y = self.attend(trunk, seen.grid, lambda values: share_values(seen.x, values, weigh))
        return pictured(y.transpose(1, 2).unflatten(2, seen.grid), trunk)

    def by_sam(self, seen: SAMAttention, cells: Tensor) -> Tensor:
        """Cells (1, C, n_h, n_w) mixed by SAM, some queries at a time."""
        values = normalize(seen.values.float(), dim=-1)  # (S, n_h * n_w, d)
        heads, count = values.shape[:2]
        limit = self.sharpness * torch.einsum('hnd,hd->n', values, values.mean(1)) / heads
        limit = limit.clamp(max=MOST)
        if not self.negative:
            limit = torch.where(limit < 0, FLOOR, limit)
        step = at_once(4 * heads * seen.keys.shape[1], values.device, CHUNK_BYTES)
        flat, mixed = cells.flatten(2)[0].T, []
        for first in range(0, count, step):
            part = slice(first, min(first + step, count))
            near = values[:, part] @ values.transpose(1, 2) > limit[part, None]
            weights = (near * seen.rows(part.start, part.stop)).sum(0)
            mixed.append(weights @ flat / weights.sum(1, keepdim=True).clamp(min=1e-12))
        return torch.cat(mixed).T.reshape(cells.shape)


def shown(
    maps: Tensor, grid: tuple[int, int], part: tuple[int, int], of: tuple[int, int]
) -> Tensor:
    """The top left `part` of what maps (1, C, h, w) span, `of`, in pixels, on a grid, bilinearly;
    beyond them their border repeats."""
    if tuple(maps.shape[-2:]) == grid and part == of:
        return maps
    down, across = (
        resize_side(n, size, sides, maps).matrix
        for n, size, sides in zip(grid, maps.shape[-2:], zip(part, of, strict=True), strict=True)
    )
    return down @ maps @ across.T

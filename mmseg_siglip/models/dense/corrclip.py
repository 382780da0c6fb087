"""CorrCLIP, https://arxiv.org/abs/2411.10086, its first version.

Shapes: B windows, grid (h, w) of the encoder, (g, k) of the guide, M = g*k cells, C channels of the
last attention, G of the guide, D joint channels, R regions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import torch
from scipy.sparse.csgraph import connected_components
from torch import Tensor, nn
from torch.nn.functional import normalize

from mmseg_siglip.device import at_once, to_host, upload
from mmseg_siglip.models.backbones.block import CHUNK_BYTES, merge_heads, split_heads
from mmseg_siglip.models.backbones.tokens import Tokens
from mmseg_siglip.models.backbones.trunk import Trunk, block_positions
from mmseg_siglip.models.dense.depth import some_blocks
from mmseg_siglip.models.dense.guided import Guided, resized
from mmseg_siglip.models.dense.spans import spanned
from mmseg_siglip.models.postprocessors.mask_labels import label_map
from mmseg_siglip.models.regions import resize_regions
from mmseg_siglip.precision import autocast
from mmseg_siglip.registry import DENSE_METHODS

GUIDE = MappingProxyType(dict(type='DINOGuide', pretrained='facebook/dino-vitb8', site='q+k'))
SPATIAL = MappingProxyType({12: 5, 24: 12, 32: 28})
SLIDE = dict(
    short_side=336,
    crop_size=336,
    stride=112,
    logit_scale=40,
    label_steps=[dict(type='RegionVote')],
)
PUBLISHED = dict(
    voc21=dict(SLIDE, prob_thd=0.2, area_thd=None),
    voc20=SLIDE,
    context60=dict(SLIDE, prob_thd=0.15),
    context59=SLIDE,
    coco_object=dict(SLIDE, prob_thd=0.25),
    coco_stuff=SLIDE,
    cityscapes=dict(SLIDE, short_side=448, crop_size=224),
    ade20k=dict(SLIDE, short_side=448),
)
"""Settings of the authors' configurations on CLIP B/16, each with map correction (`RegionVote`)."""


@DENSE_METHODS.register_module(name='corrclip')
class CorrCLIP(Guided):
    """Patches share their values within regions, by how alike they are to a second model.

    A = softmax(t S) over the allowed pairs, S the cosines of the guide's cells. Regions whose mean
    features are alike are one. Two cells of one region are allowed, and where either is in none,
    those whose cosine is above the window's mean. Three parts are added in the joint space:

    - A v of the last attention;
    - A v of the same attention over the mean of middle blocks, which know best where things are;
    - what the encoder makes of each region as a whole, see `Trunk.region_vectors`.

    On CLIP the sum stands behind ``ln_post`` and the projection is linear, so both orders agree. On
    an encoder that pools by attention all three come out of the head; there the weights, found on
    CLIP, are unmeasured.

    Args:
        guide: A guide, see `build_guide`; CorrCLIP reads ``q+k`` of DINO B/8.
        temperature: t.
        merge: Regions become one if the cosine of their mean features is less than this below the
            highest of any pair, a region with itself included; None leaves them apart.
        spatial: Weight of the middle blocks.
        semantic: Weight of whole regions.
        blocks: The middle blocks, whose outputs are averaged. By default the n before the last two
            but one, n = 5 of 12 blocks, 12 of 24, 28 of 32 and, scaled, at least one of any other
            number L, which are L - 4.
        parity: As published, the smallest label in a window counts as "no region", even where each
            pixel lies in one, and one or two labels are not merged. By default that is label 0
            alone.

    Raises:
        ValueError: There is no such guide, or it gives no numbers, or `blocks` is empty.
    """

    uses_regions = pools = True
    guide_site = GUIDE['site']

    def __init__(
        self,
        guide: str | Mapping | nn.Module = GUIDE,
        *,
        temperature: float = 4.0,
        merge: float | None = 0.2,
        spatial: float = 1.0,
        semantic: float = 0.5,
        blocks: Sequence[int] | None = None,
        parity: bool = False,
    ) -> None:
        super().__init__(guide)
        some_blocks(blocks, 'corrclip')
        self.temperature, self.merge = temperature, merge
        self.spatial, self.semantic, self.blocks = spatial, semantic, blocks
        self.parity = parity

    def check(self, encoder) -> None:
        if self.blocks is not None:
            block_positions(self.blocks, encoder.num_layers, 'corrclip: blocks')

    def forward(self, trunk: Trunk) -> Tensor:
        blocks = middle_blocks(len(trunk.blocks)) if self.blocks is None else self.blocks
        trunk.keep([*blocks, max(0, len(trunk.blocks) - 2)])
        if self.semantic:
            trunk.encoder.open_for_regions(trunk)
        seen = self.look(trunk)
        patch = trunk.encoder.patch_size
        labels = [spanned(label_map(part), trunk.grid, patch) for part in trunk.regions]
        cells = torch.stack([resize_regions(part, seen.grid).flatten() for part in labels])
        regions = self.merged(*to_host([cells]), seen.x)
        values, heads = self._values(trunk, seen.grid, blocks)
        vectors = self._of_regions(trunk, regions.unflatten(1, seen.grid))
        regions = upload(regions, values.device)
        with autocast('fp32', values.device):
            mixed = [self._mix(*own) for own in zip(seen.x, regions, values, strict=True)]
        parts = torch.stack(mixed).chunk(2 if self.spatial else 1, dim=-1)
        site = trunk.last
        joint = [site.read(site.out(split_heads(part, heads)), seen.grid) for part in parts]
        total = joint[0] + self.spatial * joint[1] if self.spatial else joint[0]
        return total if vectors is None else total + self.semantic * vectors

    def _values(
        self, trunk: Trunk, grid: tuple[int, int], blocks: Sequence[int]
    ) -> tuple[Tensor, int]:
        """What is mixed, (B, M, C) float32 or with middle blocks (B, M, 2 C), and the number of
        heads in C."""
        inputs = [trunk.last.x]
        if self.spatial:
            inputs.append(sum(trunk.output(block) for block in blocks) / len(blocks))
        values = [trunk.last.qkv(x)[2] for x in inputs]
        maps = [Tokens(merge_heads(v).float(), trunk.grid, trunk.prefix).map for v in values]
        return resized(torch.cat(maps, dim=1), grid).flatten(2).mT, values[0].shape[1]

    def none(self, labels: Tensor) -> Tensor:
        """The label that means "no region"."""
        return labels.min() if self.parity else labels.new_zeros(())

    def merged(self, labels: Tensor, features: Tensor) -> Tensor:
        """Labels (B, M) of cells with features (B, M, G), those of like regions of a window made
        equal.

        Labels are on the CPU, wherever features are: how many there are decides what is computed,
        and so a GPU is waited for once for all windows.
        """
        if self.merge is None:
            return labels
        named = [own.unique(return_inverse=True) for own in labels]
        regions = [(names != self.none(names)).nonzero()[:, 0] for names, _ in named]
        joined = [
            self.alike(own, index, kept)
            for own, (_, index), kept in zip(features, named, regions, strict=True)
        ]
        for (names, _), kept, own in zip(named, regions, to_host(joined), strict=True):
            if len(kept) > 1:
                found = torch.from_numpy(connected_components(own.numpy(), directed=False)[1])
                names[kept] = names[-1] + 1 + found.to(names)
        return torch.stack([names[index] for names, index in named])

    def alike(self, features: Tensor, index: Tensor, regions: Tensor) -> Tensor:
        """Which regions are like one another, (R, R) bool, where features are.

        Args:
            features: (M, G), unit length.
            index: (M,), each cell's place among the labels; on the CPU.
            regions: (R,), the places of those that are regions; on the CPU.
        """
        sums = features.new_zeros(int(index.max()) + 1, features.shape[1])
        sums.index_add_(0, upload(index, features.device), features)
        means = normalize(sums[upload(regions, features.device)], dim=-1)
        alike = means @ means.T
        return alike.max() - alike <= self.merge if len(regions) else alike.bool()

    def _of_regions(self, trunk: Trunk, regions: Tensor) -> Tensor | None:
        """For each cell of the guide (B, g, k), whose regions are on the CPU, its region's vector,
        (B, D, g, k)."""
        if not self.semantic:
            return None
        found = [resize_regions(part, trunk.grid).unique(return_inverse=True) for part in regions]
        most = max(len(names) for names, _ in found)
        index = upload(torch.stack([index for _, index in found]), trunk.last.x.device)
        numbers = torch.arange(most, device=index.device)[:, None]
        vectors = trunk.region_vectors(index.flatten(1)[:, None] == numbers)
        cells = resize_regions(index, tuple(regions.shape[1:]))
        each = torch.arange(len(cells), device=cells.device)[:, None, None]
        return vectors[each, cells].permute(0, 3, 1, 2)

    def _mix(self, features: Tensor, labels: Tensor, values: Tensor) -> Tensor:
        """A v of one window, some rows of A at a time: unit features (M, G), labels (M,), values
        (M, E) to (M, E)."""
        count = len(labels)
        mean = features.mean(0).square().sum()
        none = labels == self.none(labels)
        parts = []
        step = at_once(4 * count, labels.device, CHUNK_BYTES)
        for rows in torch.arange(count, device=labels.device).split(step):
            cosines = features[rows] @ features.T
            free = none[rows, None] | none
            allowed = torch.where(free, cosines > mean, labels[rows, None] == labels)
            allowed[torch.arange(len(rows), device=rows.device), rows] = True
            logits = (self.temperature * cosines).masked_fill(~allowed, -torch.inf)
            parts.append(logits.softmax(-1) @ values)
        return torch.cat(parts)


def middle_blocks(count: int) -> range:
    """The blocks whose mean knows best where things are, of `count`."""
    before = SPATIAL.get(count, count - 4)
    last = max(count - 2, 1)
    return range(max(0, min(count - 2 - before, last - 1)), last)

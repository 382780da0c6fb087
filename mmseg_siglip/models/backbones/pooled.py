"""Encoders whose own vector is pooled by attention, their patches read through the same head.

A patch alone is a sequence of one token. Over one key the softmax is 1, so query, key and probe
drop out: o = W_o (W_v z + b_v) + b_o, then o + MLP(LN(o)), which is exact.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace

from torch import Tensor

from mmseg_siglip.models.backbones.base import VisionLanguageBackbone
from mmseg_siglip.models.backbones.block import Block, beside, mask_bias, run_block
from mmseg_siglip.models.backbones.planes import Dense
from mmseg_siglip.models.backbones.site import SITES, LastBlock, PoolingHead, Site
from mmseg_siglip.models.backbones.tokens import Tokens
from mmseg_siglip.models.backbones.trunk import Method, Trunk


class AttentionPooled(VisionLanguageBackbone):
    """An encoder with an attention pooling head.

    Attributes:
        readout: How a patch of the trunk reaches the joint space: ``map``, the pooling head run on
            that patch alone (exact); ``value``, the head without its norm and MLP; ``raw``, where
            the trunk has the width of the joint space, the normed trunk token.
        site: Where the attention of `dense` goes: the ``trunk``'s last block, or the pooling
            ``head`` over its own queries and keys, the trunk left as it is; ``auto``, where the
            method is better off, see `DenseMethod`.
    """

    readout: str
    site: str
    pools_by_attention = True

    @abstractmethod
    def head_block(self) -> Block:
        """The pooling head, applied to patches instead of the probe; its `norm` does nothing."""

    @abstractmethod
    def probe(self) -> Tensor:
        """The query that the head pools by, (1, 1, C)."""

    def to_joint(self, x: Tensor) -> Tensor:
        """What follows the head: (B, N, C) to (B, N, D)."""
        return x

    def finish(self) -> None:
        super().finish()
        self.reading()

    def reading(self, *, readout: str | None = None, site: str | None = None) -> dict[str, str]:
        readout, site = self.check_readout(readout or self.readout), site or self.site
        if site not in ('auto', *SITES):
            raise ValueError(f'unknown site {site!r}; expected one of auto, {", ".join(SITES)}')
        if (site, readout) == ('head', 'raw'):
            raise ValueError("readout 'raw' leaves the pooling head out, so site cannot be 'head'")
        return dict(readout=readout, site=site)

    def site_for(self, method: Method, **reading: str | None) -> str:
        """Where a method's attention goes; see `dense` for `reading`."""
        known = self.reading(**reading)
        if known['site'] != 'auto':
            return known['site']
        return 'trunk' if known['readout'] == 'raw' else method.site

    def features_of(self, trunk: Trunk, method: Method) -> Dense:
        known = trunk.surroundings
        site = self.site_for(method, readout=known.readout, site=known.site)
        trunk.surroundings = replace(known, site=site)
        return super().features_of(trunk, method)

    def site_of(self, trunk: Trunk) -> Site:
        known = trunk.surroundings
        return LastBlock(trunk) if known.site == 'trunk' else self.head_of(trunk)

    def head_of(self, trunk: Trunk) -> PoolingHead:
        return PoolingHead(trunk, trunk.surroundings.readout)

    def open_for_regions(self, trunk: Trunk) -> None:
        """See `VisionLanguageBackbone`; here it asks for the last output alone."""

    def region_vectors(self, trunk: Trunk, masks: Tensor) -> Tensor:
        """See `VisionLanguageBackbone`. The pooling head itself, whose probe sees the prefix tokens
        and the region's patches: exact, and all patches together give `encode_image`."""
        return self.pool_regions(self.norm(trunk.output(-1)), masks)

    def pool_regions(self, z: Tensor, masks: Tensor) -> Tensor:
        """`region_vectors` of normed tokens (B, P + M, C), on any grid, and masks (B, R, M)."""
        self.require_pooling()
        block, grid = self.head_block(), (1, masks.shape[-1])
        bias = mask_bias(masks, self.num_prefix, z)
        _, k, v = block.qkv(z, grid)
        probe = self.probe().expand(len(z), masks.shape[1], -1)
        pooled = run_block(block, probe, beside(k, v, bias), grid=grid, residual=False)
        return self.to_joint(pooled)

    def project(self, tokens: Tokens, *, readout: str | None = None) -> Tensor:
        readout = self.check_readout(readout or self.readout)
        z = self.norm(tokens.x)
        if readout != 'raw':
            z = run_block(
                self.head_block(),
                z,
                read_alone,
                grid=tokens.grid,
                residual=False,
                ffn=readout == 'map',
            )
        return tokens.replace(self.to_joint(z)).map


def read_alone(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """No mixing at all: each patch keeps its own value."""
    return v

"""ResCLIP, https://arxiv.org/abs/2411.15851.

Shapes: B images, H heads, N tokens, d per head, Q words, grid (h, w).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import torch
from torch import Tensor

from mmseg_siglip.models.backbones.base import VisionLanguageBackbone
from mmseg_siglip.models.backbones.block import Residual, attend
from mmseg_siglip.models.backbones.tokens import Tokens
from mmseg_siglip.models.backbones.trunk import Trunk, block_positions
from mmseg_siglip.models.dense.depth import scaled_blocks, some_blocks
from mmseg_siglip.models.dense.method import DenseMethod
from mmseg_siglip.models.dense.naclip import gaussian_bias
from mmseg_siglip.models.dense.residual_cross import ResidualCross
from mmseg_siglip.models.dense.semantic_feedback import feedback, patch_labels
from mmseg_siglip.registry import DENSE_METHODS

HOSTS = MappingProxyType(dict(sclip='qk', clearclip='q', naclip='k'))
"""What meets itself in the last attention of each host."""
BLOCKS = (5, 6, 7, 8)


def _published(
    short_side: int, temp_thd: float, rcs: tuple, sfr: tuple, **other
) -> MappingProxyType:
    method = dict(type='resclip', temp_thd=temp_thd, rcs=rcs, sfr=sfr)
    return MappingProxyType(dict(short_side=short_side, logit_scale=40.0, method=method, **other))


SLIDE = dict(mode='slide', crop_size=224, stride=112)
PUBLISHED = MappingProxyType(
    dict(
        ade20k=_published(336, 0.25, (2.0, 0.3), (2.1, 0.7), test_cfg=SLIDE),
        cityscapes=_published(560, 0.10, (2.0, 0.2), (2.1, 0.6), test_cfg=SLIDE),
        coco_object=_published(336, 0.11, (2.0, 0.4), (1.8, 0.7), test_cfg=SLIDE, prob_thd=0.1),
        coco_stuff=_published(336, 0.11, (2.0, 0.4), (1.8, 0.7), test_cfg=SLIDE),
        context59=_published(336, 0.25, (2.0, 0.4), (1.8, 0.7), test_cfg=SLIDE),
        context60=_published(336, 0.30, (2.0, 0.3), (1.8, 0.7), test_cfg=SLIDE, prob_thd=0.1),
        voc20=_published(336, 0.10, (2.0, 0.6), (2.1, 0.6), test_cfg=dict(mode='whole')),
        voc21=_published(
            336, 0.50, (2.0, 0.3), (2.2, 0.7), test_cfg=dict(mode='whole'), prob_thd=0.1
        ),
    )
)
PUBLISHED_MIOU = dict(
    voc21=61.1,
    context60=33.5,
    coco_object=35.0,
    voc20=86.0,
    cityscapes=35.9,
    context59=36.8,
    ade20k=18.0,
    coco_stuff=24.7,
)
SOURCE = 'https://github.com/yvhangyang/ResCLIP, on NACLIP'
"""Settings for CLIP B/16 by data set, https://github.com/yvhangyang/ResCLIP. None are published for
L/14."""


@DENSE_METHODS.register_module(name='resclip')
class ResCLIP(DenseMethod):
    """A host's attention with what middle blocks attend to (RCS), and with what a first look has
    labelled alike (SFR); see `ResidualCross` and `mmseg_siglip.models.dense.semantic_feedback`.

    SFR looks twice: the first look, with RCS alone, labels patches by the words; then each map Z of
    logits becomes τ ((1 - λ) Z + λ M), M the mask of their regions. It needs words, so a segmentor.
    The second look holds the mask and its bias, (N, N) numbers each for every window of a batch.
    On the head, both ideas act on the pooling head's attention; neither is published nor measured
    on an encoder without CLS, and `temp_thd` has to be found anew there.

    Args:
        host: ``sclip``, ``clearclip`` or ``naclip``, whose attention, residual and feed-forward
            part it keeps.
        rcs: (τ, λ) of RCS; None leaves it out.
        sfr: (τ, λ) of SFR; None leaves it out.
        temp_thd: Pixels whose best probability is lower are of no word in the first look.
        blocks: Those that RCS takes maps from; by default 5 to 8 of 12, scaled to other depths,
            which is not published.
        logit_scale: Factor on cosines of the first look; by default what the segmentor scales by.
        pamr: Iterations of PAMR on the first look's cosines, with dilations of 8 and 16 pixels.
        parity: As the published code does it. There the label "unsure" is that of the first word;
            words of one class are regions of their own; of the way between two patches only a part
            is looked at, in float32 (see `connected`); and blocks are 5 to 8 at any depth.

    Raises:
        ValueError: No host has that name, or a number is out of range.
    """

    def __init__(
        self,
        host: str = 'naclip',
        *,
        rcs: Sequence[float] | None = (2.0, 0.3),
        sfr: Sequence[float] | None = (2.1, 0.7),
        temp_thd: float = 0.25,
        blocks: Sequence[int] | None = None,
        logit_scale: float | None = None,
        pamr: int = 10,
        parity: bool = False,
    ) -> None:
        super().__init__()
        if host not in HOSTS:
            raise ValueError(f'resclip: expected host {", ".join(HOSTS)}, found {host!r}')
        for name, pair in (('rcs', rcs), ('sfr', sfr)):
            if pair is not None and (len(pair) != 2 or pair[0] <= 0 or not 0 <= pair[1] <= 1):
                raise ValueError(
                    f'resclip: expected {name} None or a factor above 0 and a weight in [0, 1], '
                    f'found {pair}'
                )
        some_blocks(blocks, 'resclip')
        if not 0 <= temp_thd <= 1 or pamr < 0:
            raise ValueError(
                'resclip: expected temp_thd in [0, 1] and pamr of at least 0, '
                f'found {temp_thd} and {pamr}'
            )
        self.host, self.residual, self.ffn = host, host == 'sclip', host == 'sclip'
        self.reads = HOSTS[host] + 'v' if rcs is None or blocks is None else 'qkv'
        self.rcs = None if rcs is None else ResidualCross(*rcs)
        self.sfr = None if sfr is None else tuple(sfr)
        self.temp_thd, self.blocks, self.logit_scale = temp_thd, blocks, logit_scale
        self.pamr, self.parity = pamr, parity

    def check(self, encoder: VisionLanguageBackbone) -> None:
        wanted = BLOCKS if self.blocks is None and self.parity else self.blocks
        if self.rcs is not None and wanted is not None:
            block_positions(wanted, encoder.num_layers, 'resclip: blocks')

    def forward(self, trunk: Trunk) -> Tokens | Tensor:
        look = Look(self, self.middle(trunk))
        first = trunk.last.run(look)
        if self.sfr is None:
            return first
        mask = feedback(self.first_labels(first, trunk), trunk.prefix, parity=self.parity)
        return trunk.last.run(replace(look, mask=mask))

    def middle(self, trunk: Trunk) -> Tensor | None:
        """What middle blocks' maps make of the last attention's values, where it is wanted."""
        if self.rcs is None:
            return None
        default = BLOCKS if self.parity else scaled_blocks(BLOCKS, len(trunk.blocks))
        blocks = default if self.blocks is None else self.blocks
        trunk.open(blocks)
        return self.rcs.middle(trunk, blocks)

    @torch.no_grad()
    def first_labels(self, first: Tokens | Tensor, trunk: Trunk) -> Tensor:
        """(B, h, w) int64, the region that each patch belongs to by the first look's features."""
        cosines = trunk.cosines(first)
        return patch_labels(
            cosines,
            trunk.images,
            patch=trunk.encoder.patch_size,
            scale=trunk.logit_scale if self.logit_scale is None else self.logit_scale,
            threshold=self.temp_thd,
            unsure=0 if self.parity else cosines.shape[1],
            iterations=self.pamr,
            owner=None if self.parity else trunk.query_to_class,
        )

    def own(self, q: Tensor, k: Tensor, v: Tensor, trunk: Trunk, mask: Tensor | None) -> Tensor:
        """The host's attention, with the `mask` (B, 1, N, N) of a second look."""
        factor, bias = 1.0, None
        if self.host == 'naclip':
            bias = gaussian_bias(trunk.grid, trunk.prefix, device=q.device).to(q.dtype)
        if mask is not None:
            tau, weight = self.sfr
            factor, regions = tau * (1 - weight), tau * weight * mask
            bias = (regions if bias is None else regions.add_(bias)).to(q.dtype)
        meeting = [dict(q=q, k=k)[name] for name in HOSTS[self.host]]
        return sum(attend(factor * part, part, v, bias) for part in meeting)


@dataclass(frozen=True)
class Look:
    """One of the two passes through the last attention.

    Attributes:
        of: The method.
        middle: What middle blocks' maps make of the values, (B, H, N, d).
        mask: The regions of an earlier look, (B, 1, N, N).
    """

    of: ResCLIP
    middle: Tensor | None
    mask: Tensor | None = None

    @property
    def residual(self) -> Residual:
        return self.of.residual

    @property
    def ffn(self) -> bool:
        return self.of.ffn

    def mix(self, q: Tensor, k: Tensor, v: Tensor, trunk: Trunk) -> Tensor:
        own = self.of.own(q, k, v, trunk, self.mask)
        return own if self.middle is None else self.of.rcs.mixed(own, self.middle)

"""SFP (ICCV 2025), https://github.com/Kimsure/SFP: SC-CLIP with other outliers and another blend.

Shapes: B images, H heads, N = P + n tokens, n = h*w patches, d per head, C channels.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mmseg_siglip.models.backbones.base import VisionLanguageBackbone
from mmseg_siglip.models.backbones.block import attend
from mmseg_siglip.models.backbones.tokens import Tokens
from mmseg_siglip.models.backbones.trunk import Trunk
from mmseg_siglip.models.dense import sc_clip
from mmseg_siglip.models.dense.outliers import largest
from mmseg_siglip.models.dense.sc_clip import SCCLIP
from mmseg_siglip.models.dense.similarity import chunks
from mmseg_siglip.precision import autocast
from mmseg_siglip.registry import DENSE_METHODS

DETECTORS = ('som', 'l2', 'lof')

PUBLISHED = sc_clip.PUBLISHED | {'ade20k': sc_clip.WINDOWS | dict(short_side=384)}
PUBLISHED_MIOU = dict(
    context60=37.2,
    coco_object=37.9,
    context59=39.9,
    ade20k=20.8,
    coco_stuff=26.4,
)
SOURCE = "https://github.com/Kimsure/SFP; its row in OV-Stitcher's table"
"""Settings of CLIP B/16 for each data set, https://github.com/Kimsure/SFP, commit 2804f5b, with
people for person in its lists of names. Of L/14 it gives prob_thd 0.25 for COCO Object and 0.2 for
VOC21, and no blocks."""


@DENSE_METHODS.register_module(name='sfp')
class SFP(SCCLIP):
    """SC-CLIP, its S without small cosines before it is sharpened, and q qᵀ beside k kᵀ.

    The last attention mixes p by (softmax(β (S - mean S)) + softmax(k kᵀ / √d) +
    softmax(q qᵀ / √d)) / 3, and the sum of levels by the first of the three alone. In S what lies
    below `threshold` is 0.

    Outliers are found once, in front of the last attention, as in the published code (the paper
    has them in each layer). What that code has beside this and drops, an attention accumulated over
    blocks, is not here. It looks outliers up in the wrong place off the square, and stops on
    batches; this does not.

    Args:
        detector: ``som``: a patch that CLS attends to more than the patch does to itself, in the
            block in front of the last attention. An encoder that pools by attention has its probe
            for that, and the last block of its trunk for the patch (ours, unmeasured). ``l2``: the
            longest tokens. ``lof``: as in SC-CLIP.
        count: Most outliers of an image by ``som`` and ``l2``.
        cls_factor: On the attention of CLS, for ``som``.
        parity: As the published code has it: an outlier among outliers becomes 0 instead of staying
            as it is.
        options: See `SCCLIP`. Blocks of 24 are SC-CLIP's; SFP's are not published.

    Raises:
        ValueError: There is no such detector.
    """

    reads = 'qkv'

    def __init__(
        self,
        *,
        detector: str = 'som',
        count: int = 10,
        cls_factor: float = 1.5,
        parity: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        if detector not in DETECTORS:
            raise ValueError(
                f'unknown detector {detector!r}; expected one of {", ".join(DETECTORS)}'
            )
        self.detector, self.count, self.cls_factor = detector, count, cls_factor
        self.floor, self.lonely = self.threshold, 'zero' if parity else 'keep'

    def check(self, encoder: VisionLanguageBackbone) -> None:
        super().check(encoder)
        if self.detector == 'som' and not (encoder.num_prefix or encoder.pooling_parts()):
            raise ValueError(
                "detector 'som' needs a CLS token or an attention pooling head, which "
                f"{type(encoder).__name__} has not; 'lof' and 'l2' need neither"
            )

    def forward(self, trunk: Trunk) -> Tokens | Tensor:
        if self.detector == 'som':
            trunk.open([block_paid(trunk)])
        return super().forward(trunk)

    def outliers(self, trunk: Trunk, patches: Tensor) -> Tensor:
        if self.detector == 'lof':
            return super().outliers(trunk, patches)
        if self.detector == 'l2':
            return largest(patches.norm(dim=-1), self.count)
        paid, kept = attention_paid(trunk)
        paid = self.cls_factor * paid
        return largest(paid, self.count, among=paid > kept)

    def blend(self, sharp: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return (sharp + attend(k, k, v) + attend(q, q, v)) / 3

    def blend_levels(self, sharp: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return sharp


def block_paid(trunk: Trunk) -> int:
    """The block whose map says what a patch gets of itself."""
    return -2 if trunk.prefix and trunk.surroundings.site == 'trunk' else -1


@torch.no_grad()
def attention_paid(trunk: Trunk) -> tuple[Tensor, Tensor]:
    """What each patch gets of the image's own token, and of itself: (B, n) each, the mean over
    heads of the softmaxed map of the block in front of the last attention.

    Without a CLS token, the first is of the pooling head's probe, the second of the last block.
    """
    prefix = trunk.prefix
    probe = None if prefix else trunk.head.probe
    q, k, _ = (part.float() for part in trunk.opened(block_paid(trunk)))
    q = q * q.shape[-1] ** -0.5
    own = []
    with autocast('fp32', q.device):
        row_bytes = 4 * q.shape[0] * q.shape[1] * k.shape[2]
        for part in chunks(q.shape[2], row_bytes, q.device):
            total = (q[:, :, part] @ k.transpose(-1, -2)).logsumexp(-1)
            own.append(((q[:, :, part] * k[:, :, part]).sum(-1) - total).exp().mean(1))
        first = (q[:, :, :1] @ k.transpose(-1, -2)).softmax(-1) if prefix else probe
    return first.mean(1)[:, 0, prefix:], torch.cat(own, dim=1)[:, prefix:]

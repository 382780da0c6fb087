"""Phrases about images to prompts of SAM, and the losses of the masks that SAM answers with.

RSRefSeg, https://arxiv.org/abs/2501.06809, and RSRefSeg 2, https://arxiv.org/abs/2507.06231.

Shapes: B images, R phrases of them (rows), C channels of patches, E of prompts, N prompts, grid
(h, w) of patches, masks (M_h, M_w) over SAM's input.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import torch
from mmcv.cnn import build_norm_layer
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn.functional import gelu, mse_loss, normalize

from mmseg_siglip.device import upload
from mmseg_siglip.kept import constant
from mmseg_siglip.models.decode_heads.sam_prompter import (
    MODES,
    NUM_PROMPTS,
    ConvPrompter,
    Grid,
    PoolPrompter,
    QueryPrompter,
    adaptive_grid,
    conv_side,
    default_norm,
    steps_to,
)
from mmseg_siglip.models.decode_heads.sam_prompter_cascade import CascadedPrompter
from mmseg_siglip.models.decode_heads.sam_prompter_rsrefseg2 import RSRefSeg2Prompter
from mmseg_siglip.models.decode_heads.text_visual_activation import (
    ImageFeatures,
    TextFeatures,
    TextVisualActivation,
)
from mmseg_siglip.models.losses.aspects import (
    PairedContrast,
    aspect_overlap,
    pool_cells,
    pool_regions,
    region_text_contrast,
)
from mmseg_siglip.models.sam import SAMAdapter, SAMFeatures
from mmseg_siglip.models.sam.geometry import mask_iou
from mmseg_siglip.models.sizes import pair
from mmseg_siglip.registry import MODELS

DENSE = (None, 'auto', 'global', 'refined', 'matched')
LEARNED = ('query', 'cascade', 'rsrefseg2')
TWO_ASPECTS = ('cascade', 'rsrefseg2')
LOSSES = (dict(type='MaskBCELoss', loss_weight=5.0), dict(type='MaskDiceLoss', loss_weight=5.0))


@MODELS.register_module()
class SAMPrompterDecodeHead(BaseModule):
    """Prompts for SAM out of any encoder's patches and words, at any resolution.

    The segmentor fills in the first five arguments.

    Args:
        in_channels: C.
        text_channels: Width of the text tower's tokens.
        prompt_dim: E, SAM's.
        native_grid: (h, w) that the encoder was trained with; ``conv`` counts its steps by it.
        space_channels: D of the space in which patches and words are compared; C if not given.
        prompt_mode: ``query``, learned prompts that attend to phrase and image; ``cascade``, the
            same in two steps, after RSRefSeg 2 but of our own design, see `CascadedPrompter`;
            ``rsrefseg2``, RSRefSeg 2's own prompter and losses, see `RSRefSeg2Prompter`; ``pool``,
            cells of a coarser grid; ``conv``, strided convolutions, as RSRefSeg. Of ``conv`` alone
            the number of prompts depends on the resolution.
        target_spatial_dim: Rows and columns of the prompts of ``pool``, exactly; of ``conv``, at
            most, on the native grid. By default 7 along the longer side, and in proportion.
        down_spatial_times: Strided convolutions of ``conv``, instead.
        num_prompts: N of ``query``, ``cascade`` and ``rsrefseg2``.
        num_layers: Of each stage of these.
        dense: What goes to SAM as a mask: ``global``, the similarity of each patch and the
            phrase; ``refined``, that plus what is learned about it; ``matched``, the similarity of
            the phrase and each patch as refined for it, with a logit scale and bias of its own;
            None, nothing. ``rsrefseg2`` has ``matched``, but in its own way: patches are enlarged
            first, and scale and bias are the encoder's, which train. ``auto`` is that, and of the
            other modes ``refined``.
        num_taps: Further depths of the encoder mixed in.
        norm_cfg: Norm of the convolutions; group norm by default.
        loss_decode: Losses of logits (P, H, W) and masks (P, H, W) that return (P,).
        iou_loss_weight: Factor on the squared error of SAM's predicted IoU; 0 leaves it untrained.
        overlap_loss_weight: Of ``cascade`` and ``rsrefseg2``: factor on `aspect_overlap`, 0.5 by
            default.
        contrast_loss_weight: Factor on `region_text_contrast` of ``cascade``, or `PairedContrast`
            of ``rsrefseg2``, 0.5 by default.

    Attributes:
        trains_logit: Whether the encoder's own logit scale and bias shall train.

    Raises:
        ValueError: A value is out of range, or an option is of another mode.
    """

    learnt_with = ('prompt_mode', 'dense')

    def __init__(
        self,
        *,
        in_channels: int,
        text_channels: int,
        prompt_dim: int,
        native_grid: Grid,
        space_channels: int | None = None,
        prompt_mode: str = 'query',
        target_spatial_dim: int | Grid | None = None,
        down_spatial_times: int | None = None,
        num_prompts: int | None = None,
        num_layers: int | None = None,
        dense: str | None = 'auto',
        num_taps: int = 0,
        norm_cfg: Mapping | None = None,
        loss_decode: Sequence[Mapping] = LOSSES,
        iou_loss_weight: float = 1.0,
        overlap_loss_weight: float | None = None,
        contrast_loss_weight: float | None = None,
        init_cfg: Mapping | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        for name, value, allowed in (('prompt_mode', prompt_mode, MODES), ('dense', dense, DENSE)):
            if value not in allowed:
                raise ValueError(f'{name}: expected one of {allowed}, found {value!r}')
        for name, value, modes in (
            ('target_spatial_dim', target_spatial_dim, ('conv', 'pool')),
            ('down_spatial_times', down_spatial_times, ('conv',)),
            ('num_prompts', num_prompts, LEARNED),
            ('num_layers', num_layers, LEARNED),
            ('overlap_loss_weight', overlap_loss_weight, TWO_ASPECTS),
            ('contrast_loss_weight', contrast_loss_weight, TWO_ASPECTS),
        ):
            if value is not None and prompt_mode not in modes:
                raise ValueError(
                    f'{name} is an option of prompt_mode {", ".join(modes)}, '
                    f'found prompt_mode {prompt_mode!r}'
                )
        if None not in (target_spatial_dim, down_spatial_times):
            raise ValueError('target_spatial_dim and down_spatial_times: expected one, found both')
        published = prompt_mode == 'rsrefseg2'
        if dense == 'auto':
            dense = 'matched' if published else 'refined'
        if published:
            check_published(dense, num_taps, {in_channels, text_channels, space_channels})
        self.trains_logit = published
        self.prompt_mode, self.dense, self.native_grid = prompt_mode, dense, tuple(native_grid)
        self.target = target_spatial_dim
        if self.target is not None:
            self.target = pair(self.target, 'target_spatial_dim', unit='tokens')
        self.iou_loss_weight = iou_loss_weight
        self.overlap_loss_weight = 0.5 if overlap_loss_weight is None else overlap_loss_weight
        self.contrast_loss_weight = 0.5 if contrast_loss_weight is None else contrast_loss_weight
        self.num_prompts = num_prompts or NUM_PROMPTS
        self.steps = down_spatial_times
        if prompt_mode == 'conv' and self.steps is None:
            target = self.target or adaptive_grid(self.native_grid)
            self.steps = max(map(steps_to, self.native_grid, target))

        self.losses = nn.ModuleList(MODELS.build(dict(loss)) for loss in loss_decode)
        if published:
            self.prompter = RSRefSeg2Prompter(
                in_channels,
                prompt_dim,
                grid=self.native_grid,
                num_prompts=self.num_prompts,
                num_layers=num_layers or 2,
            )
            if self.contrast_loss_weight:
                self.contrast = PairedContrast()
            return
        self.activation = TextVisualActivation(in_channels, prompt_dim, num_taps=num_taps)
        norm = dict(norm_cfg or default_norm(prompt_dim))
        self.norm = build_norm_layer(norm, prompt_dim)[1]
        if prompt_mode == 'conv':
            self.prompter = ConvPrompter(prompt_dim, steps=self.steps, norm_cfg=norm)
        elif prompt_mode == 'pool':
            self.prompter = PoolPrompter(prompt_dim, target=self.target)
        else:
            learned = QueryPrompter if prompt_mode == 'query' else CascadedPrompter
            self.prompter = learned(
                prompt_dim,
                text_channels=text_channels,
                num_prompts=self.num_prompts,
                num_layers=num_layers or 2,
            )
        if prompt_mode == 'cascade' and self.contrast_loss_weight:
            self.region = nn.Linear(in_channels, prompt_dim)
        width = dict(refined=1, matched=space_channels or in_channels).get(dense)
        self.refine = None if width is None else nn.Conv2d(prompt_dim, width, 1)
        if self.refine is not None:  # begins as ``global``
            nn.init.zeros_(self.refine.weight)
            nn.init.zeros_(self.refine.bias)
        if dense == 'matched':
            self.calibration = nn.Parameter(torch.zeros(2))  # log of a factor on s, and b's shift

    def prompt_grid(self, grid: Grid) -> Grid:
        """Rows and columns of the sparse prompts for a grid of patches."""
        if self.prompt_mode == 'conv':
            return tuple(conv_side(side, self.steps) for side in grid)
        if self.prompt_mode == 'pool':
            return self.target or adaptive_grid(grid)
        return 1, self.num_prompts

    def forward(
        self,
        image: ImageFeatures,
        text: TextFeatures,
        rows: Tensor,
        features: SAMFeatures,
        sam: SAMAdapter,
        *,
        scale: float | Tensor,
        bias: float | Tensor,
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Sparse prompts (R, N, E), dense ones (R, E, *sam.embedding_size), aspects (R, 2, E).

        Args:
            image: Of B images.
            text: Of R phrases.
            rows: (R,), each phrase's image among the B.
            features: SAM's, of each phrase's image (R of them).
            sam: Gives position codes and reads masks.
            scale: The encoder's logit scale.
            bias: The encoder's logit bias.
        """
        options = dict(scale=scale, bias=bias)
        if self.prompt_mode == 'rsrefseg2':
            patches = image.patches[rows]
            sparse, logits, aspects = self.prompter(patches, text, sam.mask_size, **options)
        else:
            sparse, logits, aspects = self._prompt(image, text, rows, features, sam, **options)
        if logits is None:
            return sparse, None, aspects
        placed = sam.from_image(
            logits.float(),
            features,
            sam.mask_size,
            coverage=image.coverage,
            outside=bias,
        )
        return sparse, sam.prompt_masks(placed)[:, 0], aspects

    def _prompt(
        self,
        image: ImageFeatures,
        text: TextFeatures,
        rows: Tensor,
        features: SAMFeatures,
        sam: SAMAdapter,
        *,
        scale: float | Tensor,
        bias: float | Tensor,
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Sparse prompts, logits (R, 1, h, w) over the grid for the dense one, and aspects."""
        fused, evidence = self.activation(image, text, rows, scale=scale, bias=bias)
        x = gelu(self.norm(fused))
        extents = features.extents
        coverage = tuple(map(float, image.coverage))
        extents = extents * constant(coverage, dtype=extents.dtype, device=extents.device)
        position = sam.position(tuple(x.shape[-2:]), extents.to(x.device))
        sparse, refined, aspects = self.prompter(x, position.to(x.dtype), text.tokens, text.real)
        if self.dense is None:
            return sparse, None, aspects
        logits = evidence[:, None]
        if self.dense == 'refined':
            logits = logits + self.refine(refined)
        elif self.dense == 'matched':
            factor, shift = self.calibration
            cosines = self._match(image.similar[rows], refined, text.pooled)
            logits = scale * factor.exp() * cosines + bias + shift
        return sparse, logits, aspects

    def _match(self, similar: Tensor, refined: Tensor, pooled: Tensor) -> Tensor:
        """Cosines (R, 1, h, w) of phrases (R, D) and patches (R, D, h, w) as refined for them."""
        with torch.autocast(similar.device.type, enabled=False):
            seen = normalize(similar.float() + self.refine(refined.float()), dim=1)
            said = normalize(pooled.float(), dim=-1)
            return torch.einsum('rdhw,rd->rhw', seen, said)[:, None]

    def loss(
        self, logits: Sequence[Tensor], masks: Sequence[Tensor], iou: Sequence[Tensor]
    ) -> dict[str, Tensor]:
        """Losses by name, the mean over all phrases of the batch.

        Args:
            logits: For each image (P, H, W).
            masks: For each image (P, H, W): 0, 1, and 255 where nothing counts.
            iou: For each image (P,), predicted.
        """
        result = {}
        for loss in self.losses:
            values = [loss(*pair) for pair in zip(logits, masks, strict=True)]
            result[f'loss_{type(loss).__name__}'] = torch.cat(values).mean()
        actual = torch.cat([logit_iou(*both) for both in zip(logits, masks, strict=True)])
        if self.iou_loss_weight:
            error = mse_loss(torch.cat(list(iou)).float(), actual)
            result['loss_iou'] = self.iou_loss_weight * error
        result['train_iou'] = actual.mean()
        return result

    def aspect_losses(
        self,
        aspects: Sequence[Tensor],
        patches: Sequence[tuple[Tensor, tuple[float, float]]],
        masks: Sequence[Tensor],
        texts: Sequence[Sequence[str]],
    ) -> dict[str, Tensor]:
        """Losses on what ``cascade`` or ``rsrefseg2`` tells apart in the phrases of a batch.

        Args:
            aspects: For each image (P, 2, E).
            patches: For each image (C, h, w), and its `ImageFeatures.coverage`.
            masks: For each image (P, H, W): 0, 1, and 255 where nothing counts.
            texts: For each image P phrases.
        """
        said = torch.cat(list(aspects))
        result = {}
        if self.overlap_loss_weight:
            result['loss_overlap'] = self.overlap_loss_weight * aspect_overlap(said).mean()
        if self.contrast_loss_weight and self.prompt_mode == 'rsrefseg2':
            regions = [pool_cells(v, m, c) for (v, c), m in zip(patches, masks, strict=True)]
            contrast = self.contrast(torch.cat(regions), said[:, 1])
            result['loss_contrast'] = self.contrast_loss_weight * contrast
        elif self.contrast_loss_weight:
            pooled = [pool_regions(v, m, c) for (v, c), m in zip(patches, masks, strict=True)]
            regions, seen = (torch.cat(part) for part in zip(*pooled, strict=True))
            seen = seen.nonzero()[:, 0]
            same = same_meaning(masks, texts)[seen][:, seen]
            contrast = region_text_contrast(self.region(regions[seen]), said[seen, 1], same)
            result['loss_contrast'] = self.contrast_loss_weight * contrast
        return result


def check_published(dense: str | None, num_taps: int, widths: Collection[int | None]) -> None:
    """Refuse what RSRefSeg 2's prompter cannot do.

    Raises:
        ValueError: The dense prompt is another mode's, taps are asked for, or the encoder's
            patches, tokens and phrases are of several widths.
    """
    widths = sorted(set(widths) - {None})
    for name, expected, found, good in (
        ('dense', "'matched'", dense, dense == 'matched'),
        ('taps', 'none', num_taps, num_taps == 0),
        ('backbone', 'patches, tokens and phrases of one width', widths, len(widths) == 1),
    ):
        if not good:
            raise ValueError(
                f'{name}: expected {expected} for prompt_mode rsrefseg2, found {found!r}'
            )


def same_meaning(masks: Sequence[Tensor], texts: Sequence[Sequence[str]]) -> Tensor:
    """(R, R) bool, on the masks' device: which phrases of a batch are the same words, or about the
    same mask.

    Args:
        masks: For each image (P, H, W).
        texts: For each image P phrases.
    """
    words = [text for part in texts for text in part]
    same = torch.tensor([[one == other for other in words] for one in words])
    same, first = upload(same, masks[0].device), 0
    for part in masks:
        for row, mask in enumerate(part, start=first):
            same[row, first : first + len(part)] |= (part == mask).flatten(1).all(1)
        first += len(part)
    return same


@torch.no_grad()
def logit_iou(logits: Tensor, masks: Tensor) -> Tensor:
    """(P,) `mask_iou` of (P, H, W) logits and masks, but for the pixels that are 255."""
    return mask_iou((logits > 0) & (masks != 255), masks == 1)

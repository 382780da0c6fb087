"""Proposals from the automatic generator of the package segment-anything itself.

Shapes: M proposals, an image of (H, W) pixels.
"""

from __future__ import annotations

import numpy as np
import torch
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn.functional import interpolate

from mmseg_siglip.models.adapters.segment_anything import MARK
from mmseg_siglip.models.finite import require_finite
from mmseg_siglip.models.sam.geometry import Size
from mmseg_siglip.models.sam.proposals import Proposals
from mmseg_siglip.registry import MODELS
from mmseg_siglip.weights.claims import check_size, size_of
from mmseg_siglip.weights.state import load_strict, read_state_dict

WIDTHS = {768: 'vit_b', 1024: 'vit_l', 1280: 'vit_h'}
POSITION = 'image_encoder.pos_embed'


def load_original(checkpoint: str) -> nn.Module:
    """A published ``sam_vit_*.pth`` as the package's own model.

    Raises:
        ValueError: The file is none of SAM's, or of another width than the three published.
    """
    from segment_anything import sam_model_registry

    state = read_state_dict(checkpoint)
    if MARK not in state:
        raise ValueError(f'{checkpoint}: expected weights of segment-anything ({MARK})')
    width = state[POSITION].shape[-1] if POSITION in state else None
    if width not in WIDTHS:
        raise ValueError(
            f'{checkpoint}: expected a width of {", ".join(map(str, WIDTHS))}, found {width}'
        )
    build = sam_model_registry[WIDTHS[width]]
    check_size(build, size_of(state), checkpoint)
    model = build()
    load_strict(model, state, checkpoint)
    return model


@MODELS.register_module()
class SegmentAnythingGrid(BaseModule):
    """``SamAutomaticMaskGenerator``, for comparison: masks at full size, through NumPy and boxes.

    Args:
        checkpoint: A file of the package segment-anything, such as ``sam_vit_b_01ec64.pth``, or
            its model, built already.
        options: Those of ``SamAutomaticMaskGenerator``.

    Raises:
        ValueError: The file does not hold such weights.
        ImportError: The package is not installed.
    """

    def __init__(self, checkpoint: str | nn.Module, **options) -> None:
        from segment_anything import SamAutomaticMaskGenerator

        super().__init__()
        original = load_original(checkpoint) if isinstance(checkpoint, str) else checkpoint
        self.sam = original.eval().requires_grad_(False)
        self.sam.mask_decoder.register_forward_hook(check_answers)
        self.generator = SamAutomaticMaskGenerator(self.sam, **options)

    @torch.no_grad()
    def forward(self, pixels: Tensor, **dense) -> Proposals:
        """As `SAMPointGrid`; logits are 1 inside and -1 outside."""
        image = (pixels.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()
        records = self.generator.generate(np.ascontiguousarray(image))
        size = tuple(pixels.shape[-2:])
        masks = np.stack([record['segmentation'] for record in records] or [np.empty(size)])
        masks = torch.from_numpy(masks[: len(records)]).to(pixels.device)
        scores = pixels.new_tensor(
            [record['predicted_iou'] * record['stability_score'] for record in records]
        )
        return Proposals(masks.float() * 2 - 1, scores.clamp(0, 1), nearest)


def check_answers(decoder: nn.Module, given: tuple, answers: tuple[Tensor, Tensor]) -> None:
    """Refuse logits and predicted IoUs of a mask decoder that are no numbers."""
    require_finite('SAM', *answers)


def nearest(logits: Tensor, size: Size) -> Tensor:
    """(m, h, w) to (m, H, W) by the nearest pixel."""
    return interpolate(logits[:, None], size=size, mode='nearest-exact')[:, 0]

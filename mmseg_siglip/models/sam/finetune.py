"""Which weights of SAM train."""

from __future__ import annotations

from collections.abc import Mapping

from mmseg_siglip.models.lora import inject
from mmseg_siglip.models.sam.adapter import SAMAdapter

MODES = ('none', 'lora', 'all')
# Every matrix of the blocks and the neck, as in RSRefSeg; of SAM 2, the attention's and the neck's,
# as in RSRefSeg 2.
SAM_TARGETS = (
    r'vision_encoder\.layers\.\d+\.(attn\.qkv|attn\.proj|mlp\.lin1|mlp\.lin2)'
    r'|vision_encoder\.neck\.conv[12]'
)
SAM2_TARGETS = (
    r'vision_encoder\.backbone\.blocks\.\d+\.attn\.(qkv|proj)|vision_encoder\.neck\.convs\.\d+'
)
LORA_RANK = 16


def choose_sam_trainable(
    adapter: SAMAdapter,
    encoder: str | Mapping,
    *,
    decoder: bool = True,
    masks: bool = True,
    iou: bool = True,
) -> None:
    """Set ``requires_grad`` of SAM's weights, in place: of those only that get a gradient.

    Args:
        adapter: SAM.
        encoder: What of the image encoder trains: ``none``, ``all``, ``lora`` (rank and alpha 16,
            as RSRefSeg), or a mapping with ``type='lora'`` and ``rank``, ``alpha``, ``dropout``.
        decoder: Whether the mask decoder, and what is used of the prompt encoder, train.
        masks: Whether dense prompts are masks; else there is "no mask" at every prompt.
        iou: Whether the predicted IoU is trained.

    Raises:
        ValueError: The mode is unknown.
    """
    options = dict(encoder) if isinstance(encoder, Mapping) else dict(type=encoder)
    kind = options.pop('type', None)
    if kind not in MODES or (options and kind != 'lora'):
        raise ValueError(
            f'sam_finetune: expected one of {", ".join(MODES)}, or dict(type="lora", ...), '
            f'found {encoder!r}'
        )
    adapter.requires_grad_(False)
    model = adapter.model
    if kind == 'lora':
        pattern = SAM2_TARGETS if adapter.is_sam2 else SAM_TARGETS
        inject(adapter, pattern, **{'rank': LORA_RANK, 'alpha': LORA_RANK, **options})
    elif kind == 'all':
        model.vision_encoder.requires_grad_(True)
    if not decoder:
        return
    model.mask_decoder.requires_grad_(True)
    # Only the first mask token's answer is used.
    model.mask_decoder.output_hypernetworks_mlps[1:].requires_grad_(False)
    model.mask_decoder.iou_prediction_head.requires_grad_(iou)
    if adapter.is_sam2:
        model.mask_decoder.pred_obj_score_head.requires_grad_(False)
    prompts = model.prompt_encoder
    (prompts.mask_embed if masks else prompts.no_mask_embed).requires_grad_(True)

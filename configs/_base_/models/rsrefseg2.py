"""RSRefSeg 2: SAM 2 at 1024 pixels, the aspect kept, black beside the image for both encoders.

`parity` makes published weights mean what they meant, see `ReferringSegmentor`.
"""

model = dict(
    type='ReferringSegmentor',
    parity=True,
    sam=dict(type='SAMAdapter', checkpoint='facebook/sam2.1-hiera-large', resize='pad'),
    decode_head=dict(
        type='SAMPrompterDecodeHead',
        prompt_mode='rsrefseg2',
        loss_decode=[
            dict(type='MaskBCELoss', loss_weight=5.0),
            dict(type='MaskDiceLoss', loss_weight=5.0, squared=True),
        ],
        iou_loss_weight=0.0,
    ),
    encoder=dict(
        similarity='tower',
        finetune=dict(
            type='lora',
            rank=16,
            alpha=16,
            targets=['q_proj', 'k_proj', 'v_proj', 'out_proj', 'head'],
        ),
    ),
    sam_finetune=dict(type='lora', rank=16, alpha=16),
    precision='auto',
)

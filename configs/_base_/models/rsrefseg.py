"""RSRefSeg: SAM at 1024 pixels; images are stretched for it and for the encoder.

`parity` makes published weights mean what they meant, see `ReferringSegmentor`; without it norms,
padding, resizing and geometry are this package's own.
"""

model = dict(
    type='ReferringSegmentor',
    parity=True,
    sam=dict(type='SAMAdapter', checkpoint='facebook/sam-vit-base', resize='squash'),
    decode_head=dict(
        type='SAMPrompterDecodeHead',
        prompt_mode='conv',
        down_spatial_times=2,
        dense='global',
        loss_decode=[dict(type='MaskBCELoss', loss_weight=5.0)],
        iou_loss_weight=0.0,
    ),
    encoder=dict(
        similarity='tower',
        finetune=dict(
            type='lora',
            rank=16,
            alpha=16,
            dropout=0.1,
            targets=['q_proj', 'k_proj', 'v_proj', 'out_proj', 'head'],
        ),
    ),
    sam_finetune=dict(type='lora', rank=16, alpha=16, dropout=0.1),
    precision='auto',
)

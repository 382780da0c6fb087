"""Referring segmentation in small, for the SigLIP that ships along; SAM starts from scratch."""

sam_size = dict(image_size=128, patch_size=8)
model = dict(
    type='ReferringSegmentor',
    sam=dict(
        type='SAMAdapter',
        image_size=(96, 144),
        config=dict(
            model_type='sam',
            vision_config=dict(
                sam_size,
                hidden_size=128,
                output_channels=128,
                num_hidden_layers=4,
                num_attention_heads=4,
                window_size=8,
                global_attn_indexes=[1, 3],
                num_pos_feats=64,
            ),
            prompt_encoder_config=dict(sam_size, hidden_size=128),
            mask_decoder_config=dict(hidden_size=128, mlp_dim=256, iou_head_hidden_dim=128),
        ),
    ),
    decode_head=dict(type='SAMPrompterDecodeHead'),
    encoder=dict(
        image_size=(96, 144),
        train_sizes=[(64, 96), (80, 120), (96, 144)],
        finetune='all',
    ),
    sam_finetune='all',
)

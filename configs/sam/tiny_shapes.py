_base_ = ['../_base_/datasets/shapes_regions.py', '../_base_/default_runtime.py']
sam_size = dict(image_size=192, patch_size=8)
model = dict(
    type='SAMPretrainer',
    backbone=dict(
        type='SAMAdapter',
        attention='auto',
        config=dict(
            model_type='sam',
            initializer_range=0.08,  # narrow layers; 0.02 starts with masks that are all zero
            vision_config=dict(
                sam_size,
                hidden_size=96,
                output_channels=64,
                num_hidden_layers=5,
                num_attention_heads=3,
                mlp_ratio=2.0,
                mlp_dim=192,
                window_size=8,
                global_attn_indexes=[1, 4],
                use_rel_pos=False,
                num_pos_feats=32,
            ),
            prompt_encoder_config=dict(sam_size, hidden_size=64, mask_input_channels=8),
            mask_decoder_config=dict(
                hidden_size=64, mlp_dim=128, num_attention_heads=4, iou_head_hidden_dim=64
            ),
        ),
    ),
)
optim_wrapper = dict(
    type='AmpOptimWrapper',
    dtype='bfloat16',
    optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.02, fused=True),
    clip_grad=dict(max_norm=1.0),
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, begin=0, end=100, by_epoch=False),
    dict(type='CosineAnnealingLR', begin=100, end=1200, by_epoch=False, eta_min=1e-6),
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=1200, val_interval=1200)
default_hooks = dict(
    checkpoint=dict(interval=300, max_keep_ckpts=1), visualization=dict(draw=False)
)

_base_ = './nyu_frozen.py'
model = dict(
    freeze_backbone=False, lora=dict(rank=16, targets=['q_proj', 'k_proj', 'v_proj', 'out_proj'])
)

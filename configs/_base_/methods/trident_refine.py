"""Trident with its refinement by SAM, https://arxiv.org/abs/2411.09219."""

attention = 'trident'
label_steps = [
    dict(type='SAMRefine', sam=dict(type='SAMAdapter', checkpoint='facebook/sam-vit-base')),
]

_base_ = [
    '../_base_/datasets/refer_shapes.py',
    '../_base_/encoders/tiny_siglip_shapes.py',
    '../_base_/models/refer_sam_tiny.py',
    '../_base_/schedules/refer_tiny.py',
    '../_base_/default_runtime.py',
]
model = dict(backbone=_base_.encoder, decode_head=dict(prompt_mode='query', num_layers=1))

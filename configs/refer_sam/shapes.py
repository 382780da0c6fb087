_base_ = [
    '../_base_/datasets/refer_shapes.py',
    '../_base_/models/refer_sam_tiny.py',
    '../_base_/schedules/refer_tiny.py',
    '../_base_/default_runtime.py',
]
model = dict(decode_head=dict(prompt_mode='query', num_layers=1))

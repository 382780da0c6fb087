_base_ = [
    '../_base_/datasets/nyu_depth.py',
    '../_base_/default_runtime.py',
    '../_base_/models/published_depth.py',
]
train_dataloader = None

_base_ = [
    '../_base_/datasets/shapes.py',
    '../_base_/models/sam3.py',
    '../_base_/default_runtime.py',
]
model = dict(vocabulary='shapes')

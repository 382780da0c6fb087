"""Your own images and label maps, as docs/own_data.md has them: the next lines are yours."""

_base_ = '../pipelines/short_side.py'
data_root = 'data/own'
classes = 'data/own/classes.txt'
train_part = dict(part='train', held_out=0.2)
val_part = dict(part='val', held_out=0.2)
dataset = dict(
    type='FolderDataset',
    data_root=data_root,
    data_prefix=dict(img_path='images', seg_map_path='masks'),
    img_suffix='.jpg',
    seg_map_suffix='.png',
    vocabulary=classes,
)
train_set = {**dataset, **train_part}
test_dataloader = dict(dataset={**dataset, **val_part, 'pipeline': _base_.test_pipeline})

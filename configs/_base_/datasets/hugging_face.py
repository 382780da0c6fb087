"""A data set of the Hugging Face Hub, or in its format here; the next lines are yours."""

_base_ = '../pipelines/short_side.py'
source = 'data/table'
classes = 'data/table/classes.txt'
train_part = dict(split='train')
val_part = dict(split='validation')
dataset = dict(
    type='HuggingFaceDataset',
    source=source,
    image='image',
    label='label',
    vocabulary=classes,
)
train_set = {**dataset, **train_part}
test_dataloader = dict(dataset={**dataset, **val_part, 'pipeline': _base_.test_pipeline})

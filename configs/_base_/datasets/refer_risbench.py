"""RISBench: aerial images, a list of phrases for each split."""

_base_ = './refer_refsegrs.py'
risbench = dict(
    data_root='data/RISBench_dataset',
    data_prefix=dict(img_path='img_rgb', mask_path='mask'),
    suffix='',
    mask_above=0,
)
train_dataloader = dict(dataset=risbench)
val_dataloader = dict(dataset=risbench)
test_dataloader = dict(dataset=risbench)

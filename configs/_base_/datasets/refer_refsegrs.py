"""RefSegRS: aerial images of 512 x 512, a list of phrases for each split."""

_base_ = './refer_refcoco.py'
refsegrs = dict(
    _delete_=True,
    type='PhraseListDataset',
    data_root='data/RefSegRS',
    data_prefix=dict(img_path='images', mask_path='masks'),
    suffix='.tif',
    mask_above=50,
)
train_dataloader = dict(
    dataset=dict(ann_file='output_phrase_train.txt', pipeline={{_base_.train_pipeline}}, **refsegrs)
)
val_dataloader = dict(
    dataset=dict(
        ann_file='output_phrase_val.txt',
        pipeline={{_base_.test_pipeline}},
        test_mode=True,
        **refsegrs,
    )
)
test_dataloader = dict(
    dataset=dict(
        ann_file='output_phrase_test.txt',
        pipeline={{_base_.test_pipeline}},
        test_mode=True,
        **refsegrs,
    )
)

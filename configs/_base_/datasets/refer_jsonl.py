"""Your own images and phrases, a JSON object a line; see `ReferringDataset`."""

_base_ = './refer_refcoco.py'
jsonl = dict(
    _delete_=True,
    type='ReferringDataset',
    data_root='{{$MMSEG_SIGLIP_DATA:data}}/refer_jsonl',
    data_prefix=dict(img_path='images', mask_path='masks'),
)
train_dataloader = dict(
    dataset=dict(ann_file='train.jsonl', pipeline={{_base_.train_pipeline}}, **jsonl)
)
val_dataloader = dict(
    dataset=dict(ann_file='val.jsonl', pipeline={{_base_.test_pipeline}}, test_mode=True, **jsonl)
)
test_dataloader = dict(
    dataset=dict(ann_file='test.jsonl', pipeline={{_base_.test_pipeline}}, test_mode=True, **jsonl)
)

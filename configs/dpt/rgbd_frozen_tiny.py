_base_ = './rgbd_frozen.py'
scale = (192, 144)
resize = dict(type='Resize', scale=scale)
train_pipeline = [*_base_.train_pipeline[:2], resize, *_base_.train_pipeline[3:]]
test_pipeline = [_base_.test_pipeline[0], resize, *_base_.test_pipeline[2:]]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
encoder, encoder_size = dict(pretrained='tiny_siglip_shapes'), (64, 64)
model = dict(backbone=encoder)
optim_wrapper = dict(optimizer=dict(lr=1e-3))

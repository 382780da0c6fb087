_base_ = './refcoco.py'
model = dict(
    encoder=dict(
        train_sizes=[256, 384, 512],
        finetune=dict(resolutions=[256, 384, 512]),
    ),
)
find_unused_parameters = True  # the adapters of the other sizes rest

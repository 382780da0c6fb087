"""Images and masks with their aspect, at most 1024 x 1024; mirrored in training, sides swapped,
or, as RSRefSeg 2 has them, plain."""

keep_ratio_train = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadReferringMasks'),
    dict(type='ResizeReferring', scale=(1024, 1024), keep_ratio=True),
    dict(type='RandomReferringFlip', prob=0.5),
    dict(type='PackReferringInputs'),
]
keep_ratio_plain = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadReferringMasks'),
    dict(type='ResizeReferring', scale=(1024, 1024), keep_ratio=True),
    dict(type='PackReferringInputs'),
]
keep_ratio_test = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadReferringMasks'),
    dict(type='Resize', scale=(1024, 1024), keep_ratio=True),
    dict(type='PackReferringInputs'),
]

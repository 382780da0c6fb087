_base_ = './shapes_projector.py'
model = dict(
    depth=dict(
        names=('mean', 'std', 'min', 'max'),
        space='inverse',
        mean=(0.192, 0.046, 0.134, 0.258),
        std=(0.104, 0.055, 0.077, 0.140),
        width=64,
    ),
)

"""Plain attention and PAMR without gaps in its dilations: the highest mIoU on 40 val scenes."""

_base_ = './shapes.py'
model = dict(
    attention='vanilla',
    postprocessor=dict(type='PAMRPostProcessor', num_iter=10, dilations=(1, 2, 4, 8, 16)),
)

"""SegEarth-OV's attention and global bias, without its upsampler."""

_base_ = './loveda.py'
model = dict(attention='clearclip', score_steps=[dict(type='GlobalBias', factor=0.3)])

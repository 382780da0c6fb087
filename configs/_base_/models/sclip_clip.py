"""SCLIP as published, on CLIP."""

_base_ = './sclip.py'
model = dict(attention='csa', logit_scale=40)

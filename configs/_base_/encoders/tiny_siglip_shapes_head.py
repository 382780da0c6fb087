"""The SigLIP that ships along, its pooling head in the place of the last attention."""

_base_ = './tiny_siglip_shapes.py'
encoder = dict(site='head')

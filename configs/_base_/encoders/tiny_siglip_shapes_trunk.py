"""The SigLIP that ships along, its last attention in the trunk, whatever a method prefers."""

_base_ = './tiny_siglip_shapes.py'
encoder = dict(site='trunk')

"""The SigLIP that ships along is its own second model."""

attention = dict(
    type='proxyclip', guide=dict(type='EncoderGuide', pretrained='tiny_siglip_shapes', block=3)
)

"""The SigLIP that ships along is its own second model, the SAM that ships along the third."""

attention = dict(
    type='trident',
    guide=dict(type='EncoderGuide', pretrained='tiny_siglip_shapes', block=3),
    sam=dict(type='SAMGuide', pretrained='tiny_sam_shapes'),
)

"""The SAM that ships along is the second model."""

attention = dict(type='gla_clip', guide=dict(type='SAMGuide', pretrained='tiny_sam_shapes'))

"""The SAM that ships along is the second model."""

attention = dict(type='lposs', guide=dict(type='SAMGuide', pretrained='tiny_sam_shapes'))

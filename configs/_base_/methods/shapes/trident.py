"""The SAM that ships along is the second model."""

sam = dict(type='SAMGuide', pretrained='tiny_sam_shapes')
attention = dict(type='trident', guide=sam, sam=sam)
del sam

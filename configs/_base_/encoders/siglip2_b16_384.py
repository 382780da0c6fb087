"""SigLIP 2 ViT-B/16 at 384 pixels."""

encoder = dict(type='SigLIPBackbone', pretrained='google/siglip2-base-patch16-384')
encoder_size = (384, 384)

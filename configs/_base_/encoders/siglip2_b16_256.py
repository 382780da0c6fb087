"""SigLIP 2 ViT-B/16 at 256 pixels."""

encoder = dict(type='SigLIPBackbone', pretrained='google/siglip2-base-patch16-256')
encoder_size = (256, 256)

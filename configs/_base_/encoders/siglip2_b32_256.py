"""SigLIP 2 ViT-B/32 at 256 pixels."""

encoder = dict(type='SigLIPBackbone', pretrained='google/siglip2-base-patch32-256')
encoder_size = (256, 256)

"""SigLIP 2 ViT-B/16 at 512 pixels."""

encoder = dict(type='SigLIPBackbone', pretrained='google/siglip2-base-patch16-512')
encoder_size = (512, 512)

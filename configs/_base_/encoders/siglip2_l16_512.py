"""SigLIP 2 ViT-L/16 at 512 pixels."""

encoder = dict(type='SigLIPBackbone', pretrained='google/siglip2-large-patch16-512')
encoder_size = (512, 512)

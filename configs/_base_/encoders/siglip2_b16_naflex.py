"""SigLIP 2 ViT-B/16 NaFlex, any aspect; 256 patches."""

encoder = dict(type='SigLIPBackbone', pretrained='google/siglip2-base-patch16-naflex')
encoder_size = (256, 256)

"""SigLIP 2 ViT-B/16 at 224 pixels."""

encoder = dict(type='SigLIPBackbone', pretrained='google/siglip2-base-patch16-224')
encoder_size = (224, 224)

"""SigLIP 2 So400m/16 at 512 pixels."""

encoder = dict(type='SigLIPBackbone', pretrained='google/siglip2-so400m-patch16-512')
encoder_size = (512, 512)

"""SigLIP 2 So400m/14 at 384 pixels, a grid of 27 x 27."""

encoder = dict(type='SigLIPBackbone', pretrained='google/siglip2-so400m-patch14-384')
encoder_size = (384, 384)

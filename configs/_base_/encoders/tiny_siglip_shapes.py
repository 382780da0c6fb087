"""The SigLIP that ships along, ViT of 6 blocks with patches of 8; it knows ShapesWorld."""

encoder = dict(type='SigLIPBackbone', pretrained='tiny_siglip_shapes')
encoder_size = (64, 64)

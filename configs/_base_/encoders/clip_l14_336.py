"""OpenAI's CLIP ViT-L/14 at 336 pixels, its positions resized as in CAT-Seg."""

encoder = dict(type='CLIPBackbone', pretrained='ViT-L/14@336px', position_offset=0.0)
encoder_size = (336, 336)

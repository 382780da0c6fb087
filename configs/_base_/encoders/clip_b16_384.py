"""OpenAI's CLIP ViT-B/16 at 384 pixels, its positions resized as in CAT-Seg."""

encoder = dict(type='CLIPBackbone', pretrained='ViT-B/16', position_offset=0.0)
encoder_size = (384, 384)

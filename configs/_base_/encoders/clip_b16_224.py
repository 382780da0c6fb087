"""OpenAI's CLIP ViT-B/16 at 224 pixels."""

encoder = dict(type='CLIPBackbone', pretrained='ViT-B/16')
encoder_size = (224, 224)

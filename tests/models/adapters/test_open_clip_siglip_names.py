"""open_clip's published SigLIPs at full size, without weights."""

import pytest
import torch
from open_clip import get_model_config
from transformers import AutoModel

from mmseg_siglip.models.adapters.open_clip_siglip import siglip_config, to_siglip
from mmseg_siglip.models.backbones.build import find_encoder_type
from mmseg_siglip.weights.open_clip_checkpoint import build_timm_clip


@pytest.mark.parametrize(
    ('name', 'activations', 'size'),
    [
        ('ViT-B-16-SigLIP', ('gelu', 'gelu'), 224),
        ('ViT-B-16-SigLIP2-256', ('gelu', 'gelu_pytorch_tanh'), 256),
        ('ViT-SO400M-14-SigLIP-384', ('gelu', 'gelu'), 384),
        ('ViT-gopt-16-SigLIP2-384', ('gelu_pytorch_tanh', 'gelu_pytorch_tanh'), 384),
    ],
)
def test_every_weight_has_its_place(name, activations, size):
    assert find_encoder_type(f'{name}:webli') == 'SigLIPBackbone'
    config = siglip_config(get_model_config(name), name)
    vision, text = config.vision_config, config.text_config
    assert (vision.hidden_act, text.hidden_act) == activations
    assert (vision.layer_norm_eps, text.layer_norm_eps) == (1e-6, 1e-6)
    assert vision.image_size == size and text.max_position_embeddings == 64
    with torch.device('meta'):
        stock = to_siglip(build_timm_clip(get_model_config(name), name).state_dict())
        model = AutoModel.from_config(config)
    expected = {name: value.shape for name, value in model.state_dict().items()}
    assert {name: value.shape for name, value in stock.items()} == expected

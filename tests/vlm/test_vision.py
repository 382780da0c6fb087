"""Hidden states: transformers' own, at any layer and size."""

from __future__ import annotations

import pytest
import torch
from tiny_vlm import NARROW, spread, vision_model
from transformers import (
    CLIPVisionConfig,
    CLIPVisionModel,
    Siglip2ImageProcessor,
    Siglip2VisionConfig,
    Siglip2VisionModel,
)

from mmseg_siglip.vlm.vision import blocks_needed, hidden_states, token_grid

# patch, native side, (H, W) of the image, tokens
SIZES = [
    (16, 224, (224, 224), 196),
    (16, 256, (256, 256), 256),
    (14, 384, (384, 384), 729),
    (16, 384, (384, 384), 576),
    (16, 512, (512, 512), 1024),
    (16, 224, (448, 448), 784),
    (14, 384, (448, 448), 1024),
    (16, 384, (288, 512), 576),
    (14, 384, (378, 252), 486),
    (14, 384, (384, 224), 432),
]


@pytest.mark.parametrize(('patch', 'native', 'size', 'tokens'), SIZES)
def test_tokens_and_features_are_those_of_transformers(patch, native, size, tokens):
    model = vision_model(patch, native)
    images = torch.randn(2, 3, *size)
    with torch.no_grad():
        expected = model(
            images, output_hidden_states=True, interpolate_pos_encoding=True
        ).hidden_states
        found = hidden_states(model, images, (3, 0, 1, 2))
    assert found[3].shape == (2, tokens, 32)
    for ours, layer in zip(found, (3, 0, 1, 2), strict=True):
        torch.testing.assert_close(ours, expected[layer], rtol=1e-5, atol=1e-5)


def test_same_count_of_another_shape_is_another_place():
    """288x512 has the 576 tokens of 384x384, which transformers by default takes for the same."""
    model = vision_model(16, 384)
    images = torch.randn(1, 3, 288, 512)
    with torch.no_grad():
        (ours,) = hidden_states(model, images, (2,))
        careless = model(images, output_hidden_states=True).hidden_states[2]
    assert (ours - careless).abs().max() > 0.05


@pytest.mark.parametrize('size', [(32, 32), (48, 24)])
def test_clip(size):
    model = spread(CLIPVisionModel(CLIPVisionConfig(**NARROW, patch_size=8, image_size=32)))
    images = torch.randn(2, 3, *size)
    with torch.no_grad():
        expected = model(
            images, output_hidden_states=True, interpolate_pos_encoding=True
        ).hidden_states
        found = hidden_states(model, images, (0, 2, 3))
    for ours, layer in zip(found, (0, 2, 3), strict=True):
        torch.testing.assert_close(ours, expected[layer], rtol=1e-5, atol=1e-5)


def test_naflex_gets_the_patches_that_its_processor_makes():
    model = spread(Siglip2VisionModel(Siglip2VisionConfig(**NARROW, patch_size=8, num_patches=16)))
    pixels = torch.randint(0, 256, (2, 3, 24, 40), dtype=torch.uint8)
    processor = Siglip2ImageProcessor(patch_size=8, max_num_patches=15, do_resize=False)
    batch = processor(list(pixels), return_tensors='pt')
    assert batch.spatial_shapes.tolist() == [[3, 5]] * 2
    with torch.no_grad():
        expected = model(**batch, output_hidden_states=True).hidden_states[2]
        (found,) = hidden_states(model, pixels / 127.5 - 1, (2,))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_upper_blocks_are_not_run():
    model = vision_model(8, 32)
    ran = []
    for i, block in enumerate(model.encoder.layers):
        block.mlp.register_forward_hook(lambda *_, i=i: ran.append(i))
    model.head.register_forward_hook(lambda *_: ran.append('head'))
    hidden_states(model, torch.randn(1, 3, 32, 32), (2, 0, 1))
    assert ran == [0, 1]


def test_layers_count_as_in_transformers():
    assert [blocks_needed(layer, 27) for layer in (-1, -2, -28, 0, 27)] == [27, 26, 0, 0, 27]
    for layer in (28, -29):
        with pytest.raises(ValueError, match=f'expected -28 to 27, found {layer}; .* 27 blocks'):
            blocks_needed(layer, 27)
    with pytest.raises(ValueError, match=r'expected a whole number, found \[-2, -5\]'):
        blocks_needed([-2, -5], 27)


def test_sizes():
    config = vision_model(14, 384).config
    assert token_grid(config, (384, 384)) == (27, 27)
    for size in ((385, 384), (384, 7), (400, 400)):
        with pytest.raises(ValueError, match=f'of 14 pixels, or 384, found {size[0]}x{size[1]}'):
            token_grid(config, size)

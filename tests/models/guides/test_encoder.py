import pytest
import torch

from mmseg_siglip.models.backbones import CLIPBackbone
from mmseg_siglip.models.guides import build_guide


@torch.no_grad()
@pytest.mark.parametrize('block', [-1, 1])
@pytest.mark.parametrize('size', [(32, 32), (24, 40), (33, 47), (5, 3)])
def test_it_is_the_encoders_own_tap(openai_file, block, size):
    guide = build_guide(dict(type='EncoderGuide', pretrained=openai_file, block=block))
    pixels = torch.rand(2, 3, *size)
    found = guide(pixels)
    assert found.shape == (2, guide.channels, -(-size[0] // 8), -(-size[1] // 8))
    torch.testing.assert_close(guide(pixels[1:]), found[1:], atol=1e-5, rtol=1e-4)
    if size == (24, 40):
        encoder = CLIPBackbone(openai_file)
        images = encoder.from_pixels(pixels)
        (tap,) = encoder.forward_intermediates(images, (block,), norm=True)[1]
        torch.testing.assert_close(found, tap)


def test_it_is_frozen_and_without_text(siglip_folder):
    guide = build_guide(dict(type='EncoderGuide', pretrained=siglip_folder))
    assert not list(guide.parameters()) and not guide.state_dict() and not guide.model.has_text
    with torch.enable_grad():
        assert not guide(torch.rand(1, 3, 32, 32)).requires_grad


def test_a_block_that_is_not_there(openai_file):
    with pytest.raises(ValueError, match='EncoderGuide: block: expected blocks from -3 to 2'):
        build_guide(dict(type='EncoderGuide', pretrained=openai_file, block=3))

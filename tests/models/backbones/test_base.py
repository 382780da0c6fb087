import pytest
import torch

from mmseg_siglip.models.backbones import CLIPBackbone, SigLIPBackbone
from mmseg_siglip.models.backbones.vision_trunk import patch_grid


@pytest.fixture(scope='module', params=['clip', 'siglip', 'naflex'])
def backbone(request, openai_file, siglip_folder, naflex_folder):
    if request.param == 'clip':
        return CLIPBackbone(openai_file)
    return SigLIPBackbone(siglip_folder if request.param == 'siglip' else naflex_folder)


def images(*size, batch=2):
    return torch.randn(batch, 3, *size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ('size', 'patch', 'native', 'grid'),
    [
        ((384, 384), 14, (384, 384), (27, 27)),
        ((378, 392), 14, (384, 384), (27, 28)),
        ((384, 500), 14, (384, 384), (27, 36)),
        ((224, 448), 16, (224, 224), (14, 28)),
        ((17, 225), 16, (224, 224), (2, 15)),
    ],
)
def test_patch_grid(size, patch, native, grid):
    assert patch_grid(size, patch, native) == grid


def test_image_smaller_than_a_patch():
    with pytest.raises(ValueError, match=r'at least one patch \(16x16 pixels\), found 15x40'):
        patch_grid((15, 40), 16, (224, 224))


@pytest.mark.parametrize('size', [(32, 32), (40, 72), (16, 64), (33, 47), (8, 8)])
@torch.no_grad()
def test_batch_equals_stack_of_singles_on_any_grid(backbone, size):
    batch = images(*size, batch=3)
    dense = backbone.dense(batch)
    assert dense.shape == (3, backbone.embed_dim, -(-size[0] // 8), -(-size[1] // 8))
    singles = torch.cat([backbone.dense(image[None]) for image in batch])
    torch.testing.assert_close(dense, singles, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_padding_changes_no_pixel_inside(backbone):
    """What stands beyond the border is the mean colour, as if the image had been padded by hand."""
    small = images(33, 47)
    by_hand = torch.nn.functional.pad(small, (0, 1, 0, 7))
    torch.testing.assert_close(backbone.dense(small), backbone.dense(by_hand))


@torch.no_grad()
def test_taps(backbone):
    backbone._requested_indices = (0, -1, 1)
    first, last, middle = backbone(images(40, 24))
    assert first.shape == (2, backbone.hidden_size, 5, 3)
    backbone._requested_indices = (2,)
    torch.testing.assert_close(backbone(images(40, 24))[0], last)
    assert not torch.allclose(first, middle)
    backbone._requested_indices = (-1,)


@pytest.mark.parametrize('index', [3, -4])
def test_tap_out_of_range(backbone, index):
    backbone._requested_indices = (index,)
    with pytest.raises(ValueError, match=rf'from -3 to 2, found {index}; the encoder has 3'):
        backbone(images(32, 32))
    backbone._requested_indices = (-1,)


def test_checkpointing_gives_the_same_gradients(backbone):
    gradients = []
    for backbone.with_cp in (False, True):
        backbone.zero_grad()
        backbone.dense(images(40, 24)).square().mean().backward()
        gradients.append([p.grad.clone() for p in backbone.parameters() if p.grad is not None])
    backbone.zero_grad()
    backbone.with_cp = False
    assert len(gradients[0]) > 20
    for plain, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, recomputed)


def test_init_weights_keeps_the_checkpoint(backbone):
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    backbone.init_weights()
    torch.nn.Sequential(backbone)[0].init_weights()
    assert all(torch.equal(before[name], value) for name, value in backbone.state_dict().items())


@torch.no_grad()
def test_statistics_and_scale(backbone):
    assert len(backbone.mean) == len(backbone.std) == 3
    assert all(50 < value < 140 for value in (*backbone.mean, *backbone.std))
    assert backbone.image_size == (32, 32) and backbone.patch_size == 8
    assert backbone.logit_scale > 0 and isinstance(backbone.logit_bias, float)


@torch.no_grad()
def test_text_does_not_depend_on_its_neighbours(backbone):
    texts = ['a photo of a cat', 'sky', 'a large red star in the grass']
    together = backbone.encode_text(texts)
    assert together.shape == (3, backbone.embed_dim)
    alone = torch.cat([backbone.encode_text([text]) for text in texts])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)


def test_prompt_longer_than_the_context(backbone):
    with pytest.raises(ValueError, match='expected a prompt of at most .* tokens, found'):
        backbone.encode_text(['sky', 'grass ' * 80])

"""LLaVA's interface, and which weights are read, computed and trained."""

from __future__ import annotations

import pytest
import torch
from tiny_vlm import write_vision
from torch._dynamo.testing import CompileCounterWithBackend
from transformers import CLIPVisionModel, SiglipVisionModel

from mmseg_siglip.models.compiled import compile_parts
from mmseg_siglip.registry import MODELS
from mmseg_siglip.vlm import CLIPVisionTower, SigLIPVisionTower


@pytest.fixture
def images():
    return torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def reference(folder, images, layer, kind=SiglipVisionModel):
    model = kind.from_pretrained(folder).eval()
    with torch.no_grad():
        states = model(images, output_hidden_states=True, interpolate_pos_encoding=True)
    return states.hidden_states[layer]


@pytest.mark.parametrize('layer', [-1, -2, -4, 0, 1, 3])
@pytest.mark.parametrize('side', [32, 48])
def test_any_layer_without_what_lies_above(siglip_folder, layer, side):
    images = torch.randn(2, 3, side, side)
    tower = SigLIPVisionTower(siglip_folder, select_layer=layer, image_size=side)
    torch.testing.assert_close(
        tower(images), reference(siglip_folder, images, layer), rtol=1e-5, atol=1e-5
    )
    assert len(tower.vision_tower.encoder.layers) == layer % 4
    assert not any('head' in name or 'post_layernorm' in name for name in tower.state_dict())


def test_attributes_of_llava(siglip_folder, images):
    tower = SigLIPVisionTower(siglip_folder)
    assert tower.is_loaded and tower.select_layer == -2 and tower.select_feature == 'full'
    assert (tower.hidden_size, tower.num_patches, tower.num_patches_per_side) == (32, 16, 4)
    assert tower.config.num_hidden_layers == 3
    assert tower.dummy_feature.shape == (1, 32)
    assert (tower.dtype, tower.device.type) == (torch.float32, 'cpu')
    assert tower.image_processor.size['height'] == tower.image_processor.crop_size['height'] == 32
    batch = tower.image_processor([torch.zeros(3, 50, 70, dtype=torch.uint8)], return_tensors='pt')
    assert tower(batch.pixel_values).shape == (1, 16, 32)
    assert MODELS.get('SigLIPVisionTower') is SigLIPVisionTower
    assert tower(images).shape == (3, tower.num_patches, tower.hidden_size)


def test_native_27_by_27(tmp_path):
    write_vision(tmp_path, 14, 384, num_hidden_layers=2)
    tower = SigLIPVisionTower(str(tmp_path))
    assert tower.num_patches_per_side == 27
    assert tower(torch.randn(1, 3, 384, 384)).shape == (1, 729, 32)


def test_delayed_load(siglip_folder, images):
    tower = SigLIPVisionTower(siglip_folder, delay_load=True)
    assert not tower.is_loaded and not list(tower.parameters())
    assert (tower.hidden_size, tower.num_patches) == (32, 16)
    with pytest.raises(ValueError, match=r'call load_model\(\) before the first image'):
        tower(images)
    tower.load_model()
    weights = tower.vision_tower
    tower.load_model()
    assert tower.vision_tower is weights
    assert torch.equal(tower(images), SigLIPVisionTower(siglip_folder)(images))


def test_gradients_exactly_where_required(siglip_folder, images):
    frozen = SigLIPVisionTower(siglip_folder)
    assert not any(p.requires_grad for p in frozen.parameters())
    assert not frozen(images).requires_grad
    images.requires_grad_()
    frozen(images).sum().backward()
    assert images.grad.abs().sum() > 0
    trained = SigLIPVisionTower(siglip_folder, trainable=True)
    trained(images.detach()).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in trained.parameters())
    with torch.no_grad():
        assert not trained(images).requires_grad


def test_batch_equals_singles_and_lists_of_any_sizes(siglip_folder, images):
    tower = SigLIPVisionTower(siglip_folder)
    singles = torch.cat([tower(image[None]) for image in images])
    torch.testing.assert_close(tower(images), singles, rtol=1e-5, atol=1e-5)
    other = torch.randn(3, 16, 48)
    found = tower([images[0], other, images[1]])
    assert [tuple(tokens.shape) for tokens in found] == [(16, 32), (12, 32), (16, 32)]
    torch.testing.assert_close(found[2], singles[1], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found[1], tower(other[None])[0], rtol=1e-5, atol=1e-5)


def test_image_size_that_is_not_square(siglip_folder):
    tower = SigLIPVisionTower(siglip_folder, image_size=(32, 64))
    assert tower.grid == (4, 8) and tower.num_patches == 32
    batch = tower.image_processor([torch.zeros(3, 9, 9, dtype=torch.uint8)], return_tensors='pt')
    assert tower(batch.pixel_values).shape == (1, 32, 32)
    with pytest.raises(ValueError, match='expected a square image, found a grid of 4x8'):
        _ = tower.num_patches_per_side


def test_two_scales(siglip_folder):
    tower = SigLIPVisionTower(siglip_folder, scales=(1, 2))
    assert (tower.hidden_size, tower.num_patches) == (64, 16)
    assert tower.image_processor.size['height'] == 64
    images = torch.randn(2, 3, 64, 64)
    found = tower(images)
    assert found.shape == (2, 16, 64)
    plain = SigLIPVisionTower(siglip_folder)
    small = torch.nn.functional.interpolate(images, (32, 32), mode='bicubic')
    torch.testing.assert_close(found[..., :32], plain(small), rtol=1e-5, atol=1e-5)
    corner = plain(images[:, :, :32, 32:]).mT.unflatten(2, (4, 4))
    pooled = torch.nn.functional.avg_pool2d(corner, 2)
    torch.testing.assert_close(
        found[..., 32:].mT.unflatten(2, (4, 4))[:, :, :2, 2:], pooled, rtol=1e-4, atol=1e-5
    )


def test_half_precision_is_near_and_smaller(siglip_folder, images):
    full = SigLIPVisionTower(siglip_folder)
    half = SigLIPVisionTower(siglip_folder, precision='bf16')
    kinds = {m.weight.dtype for m in half.modules() if isinstance(m, torch.nn.Linear)}
    assert kinds == {torch.bfloat16} and half.dtype == torch.float32
    found, expected = half(images), full(images)
    assert found.dtype == torch.float32
    assert 0 < (found - expected).abs().max() < 0.05
    trained = SigLIPVisionTower(siglip_folder, precision='bf16', trainable=True)
    assert {p.dtype for p in trained.parameters()} == {torch.float32}
    trained(images).sum().backward()


def test_clip_drops_its_cls_or_keeps_it(clip_folder, images):
    tower = CLIPVisionTower(clip_folder)
    expected = reference(clip_folder, images, -2, CLIPVisionModel)
    assert tower.select_feature == 'patch'
    torch.testing.assert_close(tower(images), expected[:, 1:], rtol=1e-5, atol=1e-5)
    whole = CLIPVisionTower(clip_folder, select_feature='cls_patch')
    assert (whole.num_patches, whole.num_tokens) == (16, 17)
    torch.testing.assert_close(whole(images), expected, rtol=1e-5, atol=1e-5)
    with pytest.raises(ValueError, match="expected select_feature 'patch', found 'cls_patch'"):
        CLIPVisionTower(clip_folder, select_feature='cls_patch', scales=(1, 2))


def test_naflex_takes_images(naflex_folder):
    tower = SigLIPVisionTower(naflex_folder)
    batch = tower.image_processor([torch.zeros(3, 50, 70, dtype=torch.uint8)], return_tensors='pt')
    assert batch.pixel_values.shape == (1, 3, 32, 32)
    assert tower(batch.pixel_values).shape == (1, 16, 32)


def test_siglip_has_no_cls_to_drop(siglip_folder):
    with pytest.raises(ValueError, match="expected 'full' for SigLIP, found 'default'; SigLIP"):
        SigLIPVisionTower(siglip_folder, select_feature='default')


def test_bad_input(siglip_folder, clip_folder, tmp_path):
    with pytest.raises(ValueError, match="expected one of full, found 'cls'"):
        SigLIPVisionTower(siglip_folder, select_feature='cls')
    with pytest.raises(ValueError, match='expected -4 to 3, found -5; the encoder has 3 blocks'):
        SigLIPVisionTower(siglip_folder, select_layer=-5)
    with pytest.raises(ValueError, match='multiples of the patch of 8 pixels, or 32, found 36x36'):
        SigLIPVisionTower(siglip_folder, image_size=36)
    with pytest.raises(ValueError, match='for SigLIPVisionTower .* found clip_vision_model'):
        SigLIPVisionTower(clip_folder)
    with pytest.raises(ValueError, match="unknown precision 'int8'"):
        SigLIPVisionTower(siglip_folder, precision='int8')
    tower = SigLIPVisionTower(siglip_folder)
    with pytest.raises(ValueError, match=r'expected \(B, 3, H, W\), found \(3, 32, 32\)'):
        tower(torch.zeros(3, 32, 32))
    with pytest.raises(ValueError, match='expected floats, normalised by .*, found torch.uint8'):
        tower(torch.zeros(1, 3, 32, 32, dtype=torch.uint8))
    write_vision(tmp_path, 8, 32)
    (tmp_path / 'preprocessor_config.json').unlink()
    with pytest.raises(ValueError, match='expected an image processor .* found none that loads'):
        SigLIPVisionTower(str(tmp_path))


@pytest.mark.parametrize('phase', ['prediction', 'training'])
@pytest.mark.parametrize('scales', [(1,), (1, 2)])
def test_what_is_compiled_gives_the_same(siglip_folder, images, phase, scales):
    trainable = phase == 'training'
    tower = SigLIPVisionTower(str(siglip_folder), trainable=trainable, scales=scales)
    tower.train(trainable)

    def tokens_and_slope():
        found = tower(images)
        if not trainable:
            return [found]
        weight = tower.vision_tower.get_parameter('embeddings.patch_embedding.weight')
        return [found, *torch.autograd.grad(found.square().mean(), [weight])]

    torch._dynamo.reset()
    with torch.set_grad_enabled(trainable):
        expected = tokens_and_slope()
        counter = CompileCounterWithBackend('aot_eager')
        assert compile_parts(tower, dict(backend=counter), phase) == ['SigLIPVisionTower._encode']
        found = tokens_and_slope()
        assert 1 <= counter.frame_count <= len(scales)
        compile_parts(tower, False, phase)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs)

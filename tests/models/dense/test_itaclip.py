"""ITACLIP's image side: one view by the formula, five by cosines as they are published."""

import pytest
import torch
from contracts.dense_method import ENCODERS, DenseMethodContract
from torch.nn.functional import interpolate, normalize
from torchvision.transforms.functional import gaussian_blur, rgb_to_grayscale

from mmseg_siglip.models.backbones import CLIPBackbone
from mmseg_siglip.models.dense import build_method
from mmseg_siglip.models.dense.itaclip import PUBLISHED, blurred, grey


class TestITACLIP(DenseMethodContract):
    cases = [
        *((dict(type='itaclip', views=None), kind) for kind in ENCODERS),
        *((dict(type='itaclip'), kind) for kind in ('clip', 'siglip head')),
    ]


@pytest.fixture(scope='module')
def clip(openai_file):
    return CLIPBackbone(openai_file)


@pytest.fixture
def image():
    return torch.randn(1, 3, 32, 48, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize('blocks', [(0,), (0, 1), (1, -1)])
@torch.no_grad()
def test_one_view_equals_the_formula(clip, image, blocks):
    trunk = clip.trunk(image)

    def maps(block):
        q, k, _ = trunk.qkv(block, trunk.input(block))
        scale = q.shape[-1] ** -0.5
        return sum((x @ x.transpose(-1, -2) * scale).softmax(-1) for x in (q, k))

    x = trunk.input(-1)
    weights = 0.5 * maps(-1) + 0.5 * torch.stack([maps(block) for block in blocks]).mean(0)
    expected = x + trunk.blocks[-1].out(weights @ trunk.qkv(-1, x)[2])
    found = build_method(dict(type='itaclip', views=None, blocks=blocks))(clip.trunk(image))
    torch.testing.assert_close(found.x, expected, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_five_views_equal_their_cosines(clip, image):
    text = normalize(torch.randn(3, clip.embed_dim), dim=1)

    def cosines(picture):
        joint = clip.dense(picture, attention=dict(type='itaclip', views=None))
        return torch.einsum('bdhw,qd->bqhw', normalize(joint, dim=1), text)

    def pixels(picture):
        return interpolate(cosines(picture), size=(32, 48), mode='bilinear')

    plain = [image, rgb_to_grayscale(image, 3), gaussian_blur(image, 11, 5.0)]
    main = sum(pixels(view) for view in plain) / 3
    turned = sum(pixels(image.flip(axis)).flip(axis) for axis in (2, 3)) / 2
    method = build_method(dict(type='itaclip', views=0.7))
    joint = method(clip.trunk(image))
    assert not method.normalise
    found = torch.einsum('bdhw,qd->bqhw', joint, text)
    found = interpolate(found, size=(32, 48), mode='bilinear')
    torch.testing.assert_close(found, 0.7 * main + 0.3 * turned, atol=1e-5, rtol=1e-4)


def test_grey_and_blurred_equal_torchvision(image):
    torch.testing.assert_close(grey(image), rgb_to_grayscale(image, 3), atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(blurred(image), gaussian_blur(image, 11, 5.0))


def test_blur_of_what_is_smaller_than_the_kernel():
    assert blurred(torch.full((1, 3, 1, 4), 2.0)).sub(2).abs().max() < 1e-6


@torch.no_grad()
def test_mirrored_views_lie_on_the_patches_of_a_padded_image(clip):
    """An image that patches reach beyond: what is mirrored begins at the patches' other end."""
    image = torch.zeros(1, 3, 32, 44)
    image[..., 40:] = torch.randn(1, 3, 32, 4)
    filled = torch.nn.functional.pad(image, (0, 4))
    method = build_method(dict(type='itaclip', views=0.0))
    torch.testing.assert_close(method(clip.trunk(image)), method(clip.trunk(filled)))


def test_no_block_runs_twice(clip, image, monkeypatch):
    runs, trunk = [], clip.trunk(image)
    run = trunk.run
    monkeypatch.setattr(
        trunk, 'run', lambda block, x, method=None: runs.append(block) or run(block, x, method)
    )
    clip.features_of(trunk, build_method(dict(type='itaclip', views=None, blocks=(1, 0))))
    assert runs == [0, 1, -1]


def test_bad_input(clip):
    with pytest.raises(ValueError, match=r'views None or a weight in \[0, 1\], found 1.5'):
        build_method(dict(type='itaclip', views=1.5))
    with pytest.raises(ValueError, match='itaclip: blocks: expected blocks from -3 to 2, found 6'):
        clip.method_for(dict(type='itaclip', blocks=(6, 7, 9)))


def test_published_settings_build():
    assert [build_method(s['method']).views for s in PUBLISHED.values()].count(0.75) == 3

"""What the two encoders with an attention pooling head have in common."""

import pytest
import torch
from tiny_encoders import PE_CONFIG, PE_SIZES, open_clip_model, small_timm, write_open_clip

from mmseg_siglip.models.backbones import PECoreBackbone, SigLIPBackbone
from mmseg_siglip.models.backbones.tokens import Tokens
from mmseg_siglip.models.dense import DenseMethod, build_method


@pytest.fixture(scope='module', params=['siglip', 'pe'])
def backbone(request, siglip_folder, tmp_path_factory):
    if request.param == 'siglip':
        return SigLIPBackbone(siglip_folder)
    with small_timm(**PE_SIZES):
        folder, stock = tmp_path_factory.mktemp('pe'), open_clip_model(PE_CONFIG)
        return PECoreBackbone(write_open_clip(folder, PE_CONFIG, stock))


@pytest.fixture
def tokens(backbone):
    return backbone.forward_intermediates(torch.randn(2, 3, 24, 40))[0]


def probe_of(backbone):
    """The pooling head's own query, (H, d)."""
    block = backbone.head_block()
    head = block.head
    if isinstance(backbone, SigLIPBackbone):
        return block.qkv(head.probe)[0][0, :, 0]
    return block.qkv(head.latent)[0][0, :, 0]


class Mixing(DenseMethod):
    def __init__(self, rule):
        super().__init__()
        self.rule = rule

    def mix(self, q, k, v, trunk):
        return self.rule(q, k, v)


@torch.no_grad()
def test_by_the_probes_own_row_every_patch_is_the_image(backbone):
    """The invariant that ties a patch's readout to the pooled vector."""
    probe = probe_of(backbone)

    def as_trained(q, k, v):
        weights = (probe[:, None] * q.shape[-1] ** -0.5 @ k.transpose(-1, -2)).softmax(-1)
        return (weights @ v).expand_as(v)

    images = torch.randn(2, 3, 24, 40)
    found = backbone.dense(images, attention=Mixing(as_trained), readout='map', site='head')
    expected = backbone.encode_image(images)[:, :, None, None].expand_as(found)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_a_patch_alone_is_the_head_on_one_token(backbone, tokens):
    found = backbone.project(tokens, readout='map')
    for row, column in ((0, 0), (2, 4), (1, 3)):
        token = tokens.map[:, :, row, column][:, None]
        expected = backbone.pool(Tokens(token, (1, 1)).x)
        torch.testing.assert_close(found[:, :, row, column], expected, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_attention_goes_to_one_site_or_the_other(backbone):
    """Without mixing, the trunk's last block or the head's is left out; both are not the same."""
    images = torch.randn(2, 3, 24, 40)
    plain = backbone.dense(images, attention='vanilla', readout='value')
    on_head = backbone.dense(images, attention='maskclip', readout='value', site='head')
    torch.testing.assert_close(on_head, plain)
    on_trunk = backbone.dense(images, attention='maskclip', readout='value', site='trunk')
    assert not torch.allclose(plain, on_trunk)
    mixed = backbone.dense(images, attention='csa', readout='value', site='head')
    assert not torch.allclose(mixed, plain)


@torch.no_grad()
@pytest.mark.parametrize(('name', 'site'), [('csa', 'trunk'), ('naclip', 'head'), ('gem', 'trunk')])
def test_a_method_goes_where_it_is_better_off(backbone, name, site):
    images = torch.randn(1, 3, 24, 40)
    assert backbone.site_for(build_method(name)) == site
    found = backbone.dense(images, attention=name)
    assert torch.equal(found, backbone.dense(images, attention=name, site=site))


def test_sites_and_readouts_are_checked(backbone):
    images = torch.randn(1, 3, 24, 40)
    with pytest.raises(ValueError, match="unknown site 'neck'; expected one of auto, trunk, head"):
        backbone.dense(images, site='neck')
    with pytest.raises(ValueError, match="unknown readout 'cls'; expected one of map, value"):
        backbone.dense(images, readout='cls')


def test_what_the_default_cannot_be_is_refused_at_construction(siglip_folder):
    with pytest.raises(ValueError, match="'raw' leaves the pooling head out"):
        SigLIPBackbone(siglip_folder, readout='raw', site='head')
    assert SigLIPBackbone(siglip_folder, site='head', attention=build_method('csa')).site == 'head'

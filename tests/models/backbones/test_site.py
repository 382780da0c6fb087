"""The pooling head as a site: its probe's own row gives the encoder's own vector."""

import pytest
import torch
from tiny_encoders import PE_SIZES, small_timm

from mmseg_siglip.models.backbones import CLIPBackbone, PECoreBackbone, SigLIPBackbone


@pytest.fixture(params=['siglip', 'naflex', 'pe'])
def encoder(request):
    folder = request.getfixturevalue(f'{request.param}_folder')
    with small_timm(**PE_SIZES):
        kind = PECoreBackbone if request.param == 'pe' else SigLIPBackbone
        return kind(folder, readout='map')


@torch.no_grad()
@pytest.mark.parametrize('site', ['trunk', 'head'])
def test_the_probe_gives_the_encoders_own_vector(encoder, site):
    images = torch.randn(2, 3, 32, 48)
    trunk = encoder.trunk(images, site=site)
    assert trunk.head.probe.shape[2:] == (1, trunk.output(-1).shape[1])
    torch.testing.assert_close(
        trunk.head.probe.sum(-1), torch.ones(2, trunk.head.probe.shape[1], 1)
    )
    pooled = trunk.head.pooled
    assert pooled.shape == (2, encoder.embed_dim, 1, 1)
    torch.testing.assert_close(pooled.flatten(1), encoder.encode_image(images))
    torch.testing.assert_close(pooled.flatten(1), trunk.pooled)


@torch.no_grad()
def test_what_a_site_leaves_to_the_encoder(encoder):
    for site in ('trunk', 'head'):
        trunk = encoder.trunk(torch.randn(1, 3, 32, 48), site=site)
        y = trunk.last.out(trunk.last.qkv()[2])[:, trunk.prefix :]
        end = trunk.last.end(y, trunk.grid)
        features = end if site == 'head' else trunk.project(end)
        torch.testing.assert_close(features, trunk.last.read(y, trunk.grid))


def test_none_without_a_head(openai_file):
    assert CLIPBackbone(openai_file).trunk(torch.zeros(1, 3, 32, 32)).head is None

import pytest
import torch
from tiny_encoders import PE_SIZES, small_timm
from torch.testing import assert_close

from mmseg_siglip.models.segmentors.parts import build_backbone

POOLED = ('siglip_folder', 'naflex_folder', 'pe_folder')
WITH_CLS = ('openai_file', 'tips_folder', 'radio')


@pytest.fixture(scope='module', autouse=True)
def small():
    with small_timm(**PE_SIZES):
        yield


@pytest.fixture
def encoder(name, request):
    made = request.getfixturevalue(name)
    return build_backbone(made if isinstance(made, dict) else dict(pretrained=made))


@pytest.fixture
def images():
    return torch.randn(2, 3, 24, 40, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def masks():
    """Of 3 x 5 patches, four regions each."""
    return torch.rand(2, 4, 15, generator=torch.Generator().manual_seed(1)) < 0.4


@pytest.mark.parametrize('name', POOLED)
@torch.no_grad()
def test_a_full_mask_gives_the_whole_image(encoder, images):
    vectors = encoder.trunk(images).region_vectors(torch.ones(2, 1, 15, dtype=torch.bool))
    assert_close(vectors[:, 0], encoder.encode_image(images), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize('name', POOLED)
@torch.no_grad()
def test_a_region_is_pooled_as_if_its_patches_were_all(encoder, images, masks):
    """By the library's own head."""
    trunk, prefix = encoder.trunk(images), encoder.num_prefix
    vectors = trunk.region_vectors(masks)
    for i, regions in enumerate(masks):
        for mask, vector in zip(regions, vectors[i], strict=True):
            kept = torch.cat([torch.ones(prefix, dtype=torch.bool), mask])
            alone = encoder.pool(trunk.output(-1)[i : i + 1, kept])[0]
            assert_close(vector, alone, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize('name', WITH_CLS)
@torch.no_grad()
def test_a_copy_of_cls_sees_its_own_patches(encoder, images, masks):
    """As one sequence with a mask for all pairs, in float64."""
    vectors = encoder.trunk(images).region_vectors(masks)
    encoder.double()
    x, prefix, count = encoder.tokens(images.double()).x, encoder.num_prefix, 4
    n = x.shape[1]
    x = torch.cat([x, x[:, [encoder.summary_token]].expand(-1, count, -1)], dim=1)
    allowed = torch.zeros(2, n + count, n + count, dtype=torch.bool)
    allowed[:, :n, :n] = allowed[:, n:, :prefix] = True
    allowed[:, n:, prefix:n] = masks
    for block in encoder.blocks():
        q, k, v = block.qkv(block.norm(x), (3, 5))
        logits = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
        x = x + block.out(logits.masked_fill(~allowed[:, None], -torch.inf).softmax(-1) @ v)
        x = x + block.ffn(x)
    for r in range(count):
        own = x[:, n + r : n + r + 1].expand(-1, encoder.num_prefix, -1)
        wanted = encoder.pool(own).float()
        assert_close(vectors[:, r], wanted, atol=1e-4, rtol=1e-4)
    patches = encoder.forward_intermediates(images.double())[0].x
    assert_close(patches, x[:, :n])


@pytest.mark.parametrize('name', POOLED + WITH_CLS)
@torch.no_grad()
def test_no_patches_are_all_patches_and_weights_are_masks(encoder, images, masks):
    trunk = encoder.trunk(images)
    none = torch.zeros(2, 1, 15, dtype=torch.bool)
    assert_close(trunk.region_vectors(none), trunk.region_vectors(~none))
    vectors = trunk.region_vectors(masks)
    assert_close(trunk.region_vectors(masks.float()), vectors)
    soft = trunk.region_vectors((masks + 1) / 2)
    assert not torch.allclose(soft, vectors, atol=1e-3)
    assert not torch.allclose(vectors[:, 0], vectors[:, 1], atol=1e-3)


@pytest.mark.parametrize('name', ['talk2dino', 'dino_txt'])
@torch.no_grad()
def test_the_mean_of_a_regions_patches(encoder, images, masks):
    trunk, none = encoder.trunk(images), torch.zeros(2, 1, 15, dtype=torch.bool)
    vectors = trunk.region_vectors(torch.cat([none, masks, ~none], dim=1))
    assert_close(vectors[:, 0], vectors[:, -1])
    assert_close(vectors[:, -1], encoder.encode_image(images), atol=1e-5, rtol=1e-4)
    patches = encoder.norm(trunk.output(-1)[:, encoder.num_prefix :])
    for i, regions in enumerate(masks):
        for mask, vector in zip(regions, vectors[i, 1:-1], strict=True):
            assert_close(vector, patches[i, mask].mean(0), atol=1e-5, rtol=1e-4)
    weights = torch.rand(2, 1, 15)
    wanted = (weights @ patches) / weights.sum(-1, keepdim=True)
    assert_close(trunk.region_vectors(weights), wanted, atol=1e-5, rtol=1e-4)

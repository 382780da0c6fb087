import pytest
import torch
from contracts.dense_method import ENCODERS, quarters
from contracts.whole_method import WholeMethodContract
from tiny_encoders import PE_SIZES, small_timm
from torch.nn.functional import interpolate, normalize
from torch.testing import assert_close

from mmseg_siglip.models.backbones import CLIPBackbone, SigLIPBackbone
from mmseg_siglip.models.backbones.planes import whole
from mmseg_siglip.models.backbones.trunk import Surroundings, Trunk, View
from mmseg_siglip.models.dense import TextRegion
from mmseg_siglip.models.dense.region_masks import RegionMasks
from mmseg_siglip.models.dense.textregion import mask_weights, redundant
from mmseg_siglip.models.segmentors.parts import build_backbone

SIZE = (40, 72)


class TestTextRegion(WholeMethodContract):
    cases = [('textregion', kind) for kind in ENCODERS]


@pytest.fixture
def text():
    return normalize(torch.randn(5, 48, generator=torch.Generator().manual_seed(1)), dim=1)


@pytest.fixture
def picture():
    return torch.randn(1, 3, *SIZE, generator=torch.Generator().manual_seed(0))


def trunk_of(encoder, picture, regions, text):
    size = tuple(picture.shape[-2:])
    known = Surroundings([View(0, (0, 0, *size), regions=regions)], lambda: text)
    return encoder.trunk(picture, surroundings=known)


def naive_redundant(units, weights, threshold):
    gone = []
    for i, unit in enumerate(units):
        own, other = [], []
        for region in weights:
            cosines = [unit @ units[j] for j in range(len(units)) if region[j] > 0]
            if cosines:
                (own if region[i] > 0 else other).append(sum(cosines) / len(cosines))
            elif region[i] == 0:
                other.append(0 * unit[0])
        both = own and other
        gone.append(bool(both and sum(own) / len(own) - sum(other) / len(other) < threshold))
    return torch.tensor(gone)


@torch.no_grad()
def test_clip_equals_the_formula(openai_file, picture, text):
    """Two crops and the whole, values of the last attention, region by region."""
    clip, method = CLIPBackbone(openai_file), TextRegion(parity=True, threshold=0.1)
    regions = torch.stack([quarters(picture[0]) == label for label in (1, 2, 2, 4)])
    found = whole(method(trunk_of(clip, picture, regions, text)))[0]

    pixels = clip.to_pixels(picture)
    views = [pixels, pixels[..., :36], pixels[..., 36:]]
    resize = dict(size=(32, 32), mode='bicubic', antialias=True)
    views = torch.cat([interpolate(view, **resize) for view in views]).clamp(0, 1)
    inner = clip.trunk(clip.from_pixels(views))
    v = inner.qkv(-1, inner.input(-1))[2][:, :, 1:].transpose(2, 3).flatten(1, 2)
    coarse, left, right = v.unflatten(2, (4, 4))
    values = torch.cat([left, right], dim=2)
    values = values + interpolate(coarse[None], size=(4, 8), mode='bilinear')[0]
    values = values.flatten(1).T
    weights = interpolate(regions[None].float(), size=(4, 8), mode='bilinear')[0].flatten(1)
    gone = naive_redundant(normalize(values, dim=1), weights, 0.1)
    assert 0 < gone.sum() < 20
    wanted = torch.zeros(5, *SIZE)
    for mask, weight in zip(regions, weights, strict=True):
        mixed = sum(
            w * value for w, value, out in zip(weight, values, gone, strict=True) if not out
        )
        y = clip.blocks()[-1].out(mixed.reshape(1, 2, 1, -1))[0, 0]
        vector = normalize(clip.norm(y) @ clip.model.visual.proj, dim=0)
        wanted += (text @ vector)[:, None, None] * mask
    dense = clip.dense(clip.from_pixels(views[1:]), attention='csa')
    dense = torch.einsum('qd,dhw->qhw', text, normalize(torch.cat([*dense], dim=2), dim=0))
    dense = interpolate(dense[None], size=SIZE, mode='bilinear')[0]
    wanted = torch.where(regions.any(0), wanted, dense)
    assert_close(found, wanted, atol=1e-4, rtol=1e-4)

    (mean,) = whole(TextRegion(threshold=0.1)(trunk_of(clip, picture, regions, text)))
    twice = regions[1]
    assert_close(mean[:, twice], found[:, twice] / 2)
    assert_close(mean[:, ~twice], found[:, ~twice])


@pytest.mark.parametrize('name', ['siglip_folder', 'naflex_folder', 'pe_folder'])
@torch.no_grad()
def test_a_head_pools_the_whole_image_as_it_does(name, request):
    """One region of everything, one view: `encode_image`."""
    with small_timm(**PE_SIZES):
        encoder = build_backbone(dict(pretrained=request.getfixturevalue(name)))
    picture = torch.randn(1, 3, 32, 32).clamp(-1, 1)
    picture = encoder.from_pixels(encoder.to_pixels(picture))
    text = normalize(torch.randn(5, encoder.embed_dim), dim=1)
    trunk = trunk_of(encoder, picture, torch.ones(32, 32, dtype=torch.long), text)
    found = whole(TextRegion()(trunk))[0, :, 5, 5]
    assert_close(found, text @ normalize(encoder.encode_image(picture)[0], dim=0))


@torch.no_grad()
def test_siglip_in_parity_takes_the_mean_of_values(siglip_folder):
    encoder = SigLIPBackbone(siglip_folder)
    picture = encoder.from_pixels(encoder.to_pixels(torch.randn(1, 3, 32, 32)))
    regions, text = quarters(picture[0]), normalize(torch.randn(5, 32), dim=1)
    method = TextRegion(parity=True, threshold=None)
    (found,) = whole(method(trunk_of(encoder, picture, regions, text)))
    z = encoder.norm(encoder.trunk(picture).output(-1))[0] * 1.5
    head = encoder.model.vision_model.head.attention
    values = z @ head.in_proj_weight[-32:].T + head.in_proj_bias[-32:]
    assert not found[:, regions == 0].any()
    for label in (1, 2):
        weight = mask_weights(RegionMasks((regions == label)[None]), (4, 4))[0]
        vector = normalize(head.out_proj(values[weight > 0].mean(0)), dim=0)
        wanted = (text @ vector)[:, None].expand(-1, int((regions == label).sum()))
        assert_close(found[:, regions == label], wanted, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize('fill', ['gem', 'csa', 'vanilla'])
@torch.no_grad()
def test_the_rest_is_filled_where_its_method_is_better_off(siglip_folder, fill):
    """Not where TextRegion itself is: GEM works on the trunk alone."""
    encoder = SigLIPBackbone(siglip_folder, site='auto')
    assert encoder.site_for(TextRegion()) == 'head'
    picture = encoder.from_pixels(encoder.to_pixels(torch.randn(1, 3, 32, 32)))
    text = normalize(torch.randn(5, 32), dim=1)
    trunk = trunk_of(encoder, picture, torch.zeros(32, 32, dtype=torch.long), text)
    found = whole(encoder.features_of(trunk, TextRegion(fill=fill)))
    dense = normalize(encoder.dense(picture, attention=fill), dim=1)
    wanted = torch.einsum('bdhw,qd->bqhw', dense, text)
    assert_close(found, interpolate(wanted, size=(32, 32), mode='bilinear'), atol=1e-5, rtol=1e-4)


def test_redundant_patches_by_hand():
    generator = torch.Generator().manual_seed(0)
    units = normalize(torch.randn(30, 6, generator=generator), dim=1)
    weights = (torch.rand(4, 30, generator=generator) - 0.5).clamp(0, 1)
    weights[:, 3], weights[:, 4] = 0, 1
    found = redundant(units, weights, 0.1)
    assert torch.equal(found, naive_redundant(units, weights, 0.1)) and 0 < found.sum() < 28
    assert not found[3] and not found[4]
    assert not redundant(units, weights[:1] * 0, 0.1).any()


@pytest.mark.parametrize('regions', ['none', 'one', 'one pixel', 'masks', 'no masks'])
@torch.no_grad()
def test_few_regions(openai_file, siglip_folder, picture, text, regions):
    one = torch.ones(SIZE, dtype=torch.long)
    pixel = 0 * one
    pixel[3, 3] = 2
    masks = torch.stack([one, pixel, 0 * one]).bool()
    kinds = {'none': 0 * one, 'one': one, 'one pixel': pixel, 'masks': masks}
    for encoder in (CLIPBackbone(openai_file), SigLIPBackbone(siglip_folder)):
        words = text[:1, : encoder.embed_dim]
        for options in (dict(), dict(parity=True), dict(threshold=5.0), dict(unit_values=True)):
            trunk = trunk_of(encoder, picture, kinds.get(regions, masks[:0]), words)
            found = whole(TextRegion(**options)(trunk))
            assert found.shape == (1, 1, *SIZE) and found.isfinite().all()


@torch.no_grad()
def test_masks_of_one_thing_are_one(openai_file, picture, text):
    clip = CLIPBackbone(openai_file)
    masks = torch.zeros(3, *SIZE, dtype=torch.bool)
    masks[0, :30, :30] = masks[1, :28, 2:33] = masks[2, 20:, 40:] = True
    found, wanted = (
        whole(TextRegion(merge=merge)(trunk_of(clip, picture, regions, text)))
        for merge, regions in ((True, masks), (False, torch.stack([masks[0] | masks[1], masks[2]])))
    )
    assert torch.equal(found, wanted)
    apart = whole(TextRegion()(trunk_of(clip, picture, masks, text)))
    assert not torch.allclose(found, apart, atol=1e-4)
    labels = quarters(picture[0])
    found, wanted = (
        whole(TextRegion(merge=merge)(trunk_of(clip, picture, labels, text)))
        for merge in (True, False)
    )
    assert torch.equal(found, wanted)


@torch.no_grad()
def test_the_whole_in_halves(openai_file, picture, text):
    clip = CLIPBackbone(openai_file)
    trunk = trunk_of(clip, picture, quarters(picture[0]), text)
    seen, crops = TextRegion(wholes=2).seen(trunk)
    assert crops == (1, 2) and len(seen.images) == 4
    assert torch.equal(seen.images[:2], seen.images[2:])


def test_bad_input(openai_file, picture):
    clip = CLIPBackbone(openai_file)
    with pytest.raises(ValueError, match='resample: expected bicubic or bilinear, found .nearest'):
        TextRegion(resample='nearest')
    with pytest.raises(ValueError, match='expected the regions of the image'):
        clip.dense(picture, attention='textregion')
    with pytest.raises(ValueError, match='cuts the image itself: expected one image, found 2'):
        TextRegion()(Trunk(clip, picture.expand(2, -1, -1, -1)))

import pytest
import torch
from contracts.dense_method import ENCODERS, DenseMethodContract
from tiny_guides import tiny_guide
from torch import nn
from torch.nn.functional import interpolate, normalize, pad

from mmseg_siglip.models.backbones import SigLIPBackbone
from mmseg_siglip.models.backbones.planes import whole
from mmseg_siglip.models.backbones.trunk import Surroundings, Trunk
from mmseg_siglip.models.dense import ProxyCLIP, build_method
from mmseg_siglip.models.segmentors import SCLIPSegmentor
from mmseg_siglip.models.segmentors.parts import build_backbone

DINO, DINOV2 = tiny_guide(), tiny_guide('DINOv2Guide')


class TestProxyCLIP(DenseMethodContract):
    cases = [(dict(type='proxyclip', guide=DINO), kind) for kind in ENCODERS]


class TestFinerGuide(DenseMethodContract):
    cases = [(dict(type='proxyclip', guide=DINOV2), kind) for kind in ('clip', 'siglip head')]
    finer = 2


class Painted(nn.Module):
    """A guide whose features are what it is told."""

    channels = 4

    def __init__(self, features):
        super().__init__()
        self.features = features

    def forward(self, pixels):
        return self.features.expand(len(pixels), -1, -1, -1)


@pytest.fixture(scope='module')
def clip(openai_file):
    return build_backbone(dict(pretrained=openai_file))


@pytest.fixture(scope='module')
def siglip(siglip_folder):
    return SigLIPBackbone(siglip_folder)


def images(*size, count=2):
    return torch.randn(count, 3, *size, generator=torch.Generator().manual_seed(3))


def naive(clip, image, features, beta=1.2, gamma=3.0):
    """Of one window, query after query and head after head, in float64: (D, g_h, g_w)."""
    grid, trunk = features.shape[-2:], Trunk(clip, image[None])
    f = normalize(features.double().flatten(1).T, dim=1)
    similar = f @ f.T
    block = trunk.blocks[-1]
    v = block.qkv(block.norm(trunk.input(-1)), trunk.grid)[2][0, :, 1:].double()
    out = torch.zeros(len(f), v.shape[0], v.shape[2], dtype=torch.float64)
    for head in range(len(v)):
        plane = v[head].T.reshape(1, -1, *trunk.grid)
        values = interpolate(plane, size=grid, mode='bilinear')[0].flatten(1).T
        for i in range(len(f)):
            logits = gamma * (similar[i] - beta * similar.mean())
            logits[logits < 0] = -torch.inf
            out[i, head] = logits.softmax(0) @ values
    attention = clip.model.visual.transformer.resblocks[-1].attn
    y = attention.out_proj(out.flatten(1).float())
    return (clip.norm(y) @ clip.model.visual.proj).T.unflatten(1, grid)


@torch.no_grad()
@pytest.mark.parametrize('guide', [DINO, DINOV2])
@pytest.mark.parametrize('size', [(32, 32), (24, 48)])
def test_it_is_the_formula(clip, guide, size):
    batch = images(*size)
    features = guide(clip.to_pixels(batch))
    found = clip.dense(batch, attention=ProxyCLIP(guide))
    for i in range(2):
        torch.testing.assert_close(
            found[i], naive(clip, batch[i], features[i]), atol=1e-4, rtol=1e-3
        )
    other = clip.dense(batch, attention=ProxyCLIP(guide, beta=0.5, gamma=20.0))
    assert (found - other).abs().max() > 1e-2
    wanted = naive(clip, batch[0], features[0], 0.5, 20.0)
    torch.testing.assert_close(other[0], wanted, atol=1e-4, rtol=1e-3)


@torch.no_grad()
def test_a_mean_above_one_over_beta_leaves_each_cell_itself(clip):
    """As in a picture of one colour; as published that is NaN."""
    features = torch.ones(1, 4, 4, 4) + 0.1 * torch.randn(
        1, 4, 4, 4, generator=torch.Generator().manual_seed(0)
    )
    batch, method = images(32, 32), ProxyCLIP(Painted(features))
    assert method.look(Trunk(clip, batch)).x.mean(1).norm(dim=-1).square().min() > 1 / 1.2
    found = clip.dense(batch, attention=method)
    torch.testing.assert_close(found, clip.dense(batch, attention=Alone()))
    published = clip.dense(batch, attention=ProxyCLIP(Painted(features), parity=True))
    assert published.isnan().all()


class Alone(ProxyCLIP):
    """Identity in place of the correlation."""

    def __init__(self):
        super().__init__(DINO)

    def forward(self, trunk):
        return trunk.last.read(self.attend(trunk, trunk.grid, lambda v: v), trunk.grid)


@torch.no_grad()
def test_identity_on_the_head_is_todays_readout(siglip):
    batch = images(24, 40)
    plain = siglip.dense(batch, attention='vanilla', site='trunk', readout='map')
    found = siglip.dense(batch, attention=Alone(), site='head', readout='map')
    torch.testing.assert_close(found, plain)


@torch.no_grad()
def test_only_parity_looks_at_the_whole_batch(clip):
    batch = images(32, 32) * torch.tensor([1.0, 0.05]).view(2, 1, 1, 1)
    own, published = (ProxyCLIP(DINO, parity=parity) for parity in (False, True))
    alone = torch.cat([clip.dense(image[None], attention=own) for image in batch])
    torch.testing.assert_close(clip.dense(batch, attention=own), alone, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(
        clip.dense(batch[:1], attention=published), alone[:1], atol=1e-5, rtol=1e-4
    )
    assert (clip.dense(batch, attention=published) - alone).abs().max() > 1e-3


@torch.no_grad()
def test_sam_gives_its_own_grid(clip, siglip):
    method = ProxyCLIP(tiny_guide('SAMGuide'))
    for encoder in (clip, siglip):
        dense = encoder.dense(images(24, 40), attention=method)
        assert dense.shape == (2, encoder.embed_dim, 8, 8) and dense.isfinite().all()


@torch.no_grad()
@pytest.mark.parametrize('size', [(32, 48), (29, 40), (33, 21)])
def test_a_frame_is_filled_and_cut_off_again(clip, size):
    """As published, with 12 for 56 where patches have 8 pixels, step by step."""
    text = normalize(torch.randn(4, 48, generator=torch.Generator().manual_seed(1)), dim=1)
    batch, method = images(*size), ProxyCLIP(DINO, frame=12)
    more = [-side % 12 for side in size]
    (top, left), (down, right) = (n // 2 for n in more), (n - n // 2 for n in more)
    filled = pad(batch, (left, right, top, down))
    features = DINO(clip.to_pixels(filled))
    height, width = (side // 8 * 8 for side in filled.shape[-2:])
    wanted = []
    for image, guided in zip(filled, features, strict=True):
        dense = normalize(naive(clip, image[:, :height, :width], guided), dim=0)
        cosines = torch.einsum('qd,dhw->qhw', text, dense.float())
        pixels = interpolate(cosines[None], size=filled.shape[-2:], mode='bilinear')[0]
        wanted.append(pixels[:, top : top + size[0], left : left + size[1]])
    known = Surroundings(text=lambda: text)
    planes = method(clip.trunk(batch, surroundings=known))
    found = whole(planes)
    assert found.shape[-2:] == tuple(-(-side // 8) * 8 for side in size)
    inside = found[..., : size[0], : size[1]]
    torch.testing.assert_close(inside, torch.stack(wanted), atol=1e-4, rtol=1e-3)
    border = inside[:, :, -1:].expand(-1, -1, found.shape[2] - size[0], -1)
    assert torch.equal(found[:, :, size[0] :, : size[1]], border)
    for first, last in ((0, 5), (size[0] - 2, found.shape[2]), (found.shape[2] - 1,) * 2):
        last = max(last, first + 1)
        torch.testing.assert_close(planes[0].rows(first, last), found[0, :, first:last])


@torch.no_grad()
def test_a_frame_in_a_segmentor(openai_file):
    """Windows that fit get what they get without; others something of their own size."""
    options = dict(templates='plain', logit_scale=20.0)
    model = SCLIPSegmentor(
        dict(pretrained=openai_file),
        ['cat', 'sky, grass', 'road'],
        attention=ProxyCLIP(DINO),
        test_cfg=dict(crop_size=(24, 32), stride=(16, 24), return_logits=True),
        **options,
    ).eval()

    def predict(image):
        return model.predict([image])[0].seg_logits.data

    plain = [predict(image) for image in (images(40, 56)[0], images(21, 30)[0])]
    for frame, same in ((8, True), (20, False)):
        model.attention = ProxyCLIP(DINO, frame=frame)
        fits, other = (predict(image) for image in (images(40, 56)[0], images(21, 30)[0]))
        assert torch.allclose(fits, plain[0], atol=1e-5) == same
        assert other.shape == plain[1].shape and not torch.allclose(other, plain[1], atol=1e-5)


def test_bad_input(clip):
    with pytest.raises(ValueError, match='expected a frame of 1 or more pixels, found 0'):
        ProxyCLIP(DINO, frame=0)
    with pytest.raises(ValueError, match='finite numbers from Painted, found NaN or infinity'):
        clip.dense(
            images(32, 32), attention=ProxyCLIP(Painted(torch.full((1, 4, 4, 4), torch.nan)))
        )
    with pytest.raises(ValueError, match="unknown guide 'DINO'; expected one of DINOGuide"):
        build_method(dict(type='proxyclip', guide='DINO'))
    zeros = clip.dense(images(32, 32), attention=ProxyCLIP(Painted(torch.zeros(1, 4, 4, 4))))
    assert zeros.isfinite().all()

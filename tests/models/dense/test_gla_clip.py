import pytest
import torch
from contracts.dense_method import ENCODERS, DenseMethodContract
from tiny_guides import tiny_guide
from torch.nn.functional import normalize

from mmseg_siglip.models.backbones.trunk import Trunk
from mmseg_siglip.models.dense import GLACLIP, ProxyCLIP
from mmseg_siglip.models.dense import correlation as correlations
from mmseg_siglip.models.segmentors.parts import build_backbone

DINO = tiny_guide()


class TestGLACLIP(DenseMethodContract):
    cases = [
        *((dict(type='gla_clip', guide=DINO), kind) for kind in ENCODERS),
        (dict(type='gla_clip', guide=DINO, static=True), 'clip'),
    ]


@pytest.fixture(scope='module')
def clip(openai_file):
    return build_backbone(dict(pretrained=openai_file))


def images(*size, count=3):
    return torch.randn(count, 3, *size, generator=torch.Generator().manual_seed(3))


def rows(f, windows, rho=0.6, steps=2, spread=0.3, focus=30.0):
    """One query after another, in float64: (N, N)."""
    f, found = f.double(), []
    for i in range(len(f)):
        similar = f @ f[i]
        for _ in range(steps):
            near = [j for j in range(len(f)) if similar[j] > rho] or [i]
            anchor = sum(f[j] for j in near) / (len(near) + 1e-6)
            similar = f @ (anchor / anchor.norm())
        logits = similar - similar.mean().clamp(min=0) * (
            1 + spread * torch.log1p(torch.tensor(float(windows)))
        )
        logits = logits * (1 + focus / len(near))
        logits[logits < min(logits.max(), 0)] = -torch.inf
        found.append(logits.softmax(0))
    return torch.stack(found)


@torch.no_grad()
@pytest.mark.parametrize('rho', [0.3, 0.6, 0.9, 2.0])
def test_it_is_the_formula(clip, rho, monkeypatch):
    batch = images(24, 32)
    trunk, method = Trunk(clip, batch), GLACLIP(DINO, rho=rho)
    f = method.look(trunk).x.flatten(0, 1)
    weights = rows(f, 3, rho)
    values = trunk.last.qkv()[2][:, :, 1:].double()
    mixed = torch.einsum('ij,hjd->hid', weights, values.transpose(0, 1).flatten(1, 2))
    mixed = mixed.unflatten(1, (3, -1)).transpose(0, 1).float()
    wanted = trunk.last.read(trunk.last.out(mixed), trunk.grid)
    torch.testing.assert_close(method(trunk), wanted, atol=1e-4, rtol=1e-3)
    for size in (1, 4 * len(f) * 5):
        monkeypatch.setattr(correlations, 'CHUNK_BYTES', size)
        torch.testing.assert_close(method(trunk), wanted, atol=1e-4, rtol=1e-3)


@torch.no_grad()
def test_static_on_one_window_is_proxyclip_and_more_see_each_other(clip):
    batch, method = images(24, 32), GLACLIP(DINO, static=True)
    alone = clip.dense(batch[:1], attention=method)
    torch.testing.assert_close(alone, clip.dense(batch[:1], attention=ProxyCLIP(DINO)))
    together = clip.features_of(Trunk(clip, batch), method)
    assert (together[:1] - alone).abs().max() > 1e-3
    torch.testing.assert_close(clip.dense(batch, attention=method)[:1], alone)


def test_no_cell_is_left_with_nothing():
    f = normalize(torch.ones(6, 4) + 1e-3 * torch.randn(6, 4), dim=1)
    for rho in (0.6, 2.0):
        found = GLACLIP(DINO, rho=rho).weights(f @ f.T, f, slice(0, 6), 50)
        torch.testing.assert_close(found.sum(1), torch.ones(6))
    zeros = torch.zeros(6, 4)
    assert GLACLIP(DINO).weights(zeros @ zeros.T, zeros, slice(0, 6), 1).isfinite().all()


def test_bad_input():
    with pytest.raises(ValueError, match='expected steps of 1 or more, found 0'):
        GLACLIP(DINO, steps=0)

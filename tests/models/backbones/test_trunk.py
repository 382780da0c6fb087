import pytest
import torch

from mmseg_siglip.models.backbones import CLIPBackbone, SigLIPBackbone
from mmseg_siglip.models.backbones.block import attend, run_block
from mmseg_siglip.models.backbones.tokens import Tokens
from mmseg_siglip.models.backbones.trunk import Surroundings, Trunk, View
from mmseg_siglip.models.dense import Vanilla


@pytest.fixture(scope='module', params=['clip', 'siglip'])
def backbone(request, openai_file, siglip_folder):
    if request.param == 'clip':
        return CLIPBackbone(openai_file)
    return SigLIPBackbone(siglip_folder)


def outputs_by_hand(backbone, images):
    tokens = backbone.tokens(images)
    x, found = tokens.x, [tokens.x]
    for block in backbone.blocks():
        x = run_block(block, x, attend, grid=tokens.grid)
        found.append(x)
    return found


@torch.no_grad()
def test_inputs_outputs_and_maps_in_any_order(backbone):
    images = torch.randn(2, 3, 24, 40)
    expected = outputs_by_hand(backbone, images)
    trunk = Trunk(backbone, images, keep=(0,))
    for block in (2, 0, -1, 1, -3):
        torch.testing.assert_close(trunk.output(block), expected[block % 3 + 1], rtol=0, atol=0)
        torch.testing.assert_close(trunk.input(block), expected[block % 3], rtol=0, atol=0)
    q, k, v = trunk.qkv(1, trunk.input(1))
    torch.testing.assert_close(trunk.attention(1) @ v, attend(q, k, v))
    assert trunk.attention(1).shape == (2, q.shape[1], 15 + trunk.prefix, 15 + trunk.prefix)


@torch.no_grad()
def test_no_block_runs_twice_in_rising_order(backbone, monkeypatch):
    trunk = Trunk(backbone, torch.randn(1, 3, 24, 40), keep=(0,))
    ran, run = [], trunk.run
    monkeypatch.setattr(trunk, 'run', lambda block, x: (ran.append(block), run(block, x))[1])
    for block in (1, 2, 0):
        trunk.output(block)
    assert ran == [0, 1, 2]


@torch.no_grad()
def test_windows_may_pass_some_at_a_time(backbone):
    images = torch.randn(5, 3, 24, 40)
    whole = Trunk(backbone, images).output(-1)
    parts = Trunk(backbone, images, surroundings=Surroundings(batch=2)).output(-1)
    torch.testing.assert_close(parts, whole, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_an_open_block_is_projected_once(backbone, monkeypatch):
    images = torch.randn(3, 3, 24, 40)
    plain, trunk = Trunk(backbone, images), Trunk(backbone, images)
    trunk.open([0, -2])
    output = trunk.output(-1)
    torch.testing.assert_close(output, plain.output(-1), rtol=0, atol=0)
    monkeypatch.setattr(trunk, 'run', lambda *_: pytest.fail('a block ran twice'))
    for block in (0, 1, -2):
        wanted = plain.qkv(block, plain.input(block))
        for part, other in zip(trunk.opened(block), wanted, strict=True):
            torch.testing.assert_close(part, other, rtol=0, atol=0)
    with monkeypatch.context() as patch:
        patch.setattr(trunk, 'qkv', lambda *_: pytest.fail('projected twice'))
        trunk.opened(1), trunk.opened(0)


def test_open_blocks_under_checkpointing(backbone):
    """Their projections are made again, as all else that is not held."""
    images = torch.randn(1, 3, 24, 40)
    trunk, plain = Trunk(backbone, images), Trunk(backbone, images)
    backbone.with_cp = True
    try:
        trunk.open([1])
        trunk.output(-1)
        found = trunk.opened(1)
    finally:
        backbone.with_cp = False
    for part, other in zip(found, plain.qkv(1, plain.input(1)), strict=True):
        torch.testing.assert_close(part, other)


@torch.no_grad()
def test_what_surrounds_a_window(backbone):
    pixels = torch.rand(2, 3, 24, 40)
    mean, std = (torch.tensor(v).view(3, 1, 1) / 255 for v in (backbone.mean, backbone.std))
    text = torch.nn.functional.normalize(torch.randn(4, backbone.embed_dim), dim=-1)
    views = (View(0, (0, 0, 24, 40), 'first'), View(1, (8, 0, 24, 40), 'second'))
    trunk = Trunk(
        backbone,
        (pixels - mean) / std,
        surroundings=Surroundings(views=views, text=lambda: text),
    )
    torch.testing.assert_close(trunk.pixels, pixels)
    assert trunk.prepared == ['first', 'second']
    tokens = Tokens(trunk.output(-1), trunk.grid, trunk.prefix)
    dense = torch.nn.functional.normalize(backbone.project(tokens), dim=1)
    expected = torch.einsum('bdhw,qd->bqhw', dense, text)
    torch.testing.assert_close(trunk.cosines(tokens), expected)


def test_nobody_said_what_is_looked_for(backbone):
    with pytest.raises(ValueError, match='expected words, which a segmentor has'):
        Trunk(backbone, torch.randn(1, 3, 24, 40)).text  # noqa: B018


def test_no_such_block(backbone):
    with pytest.raises(ValueError, match='expected blocks from -3 to 2, found 3'):
        Trunk(backbone, torch.randn(1, 3, 24, 40)).output(3)


class Twice(Vanilla):
    """Asks for labels before its answer, and keeps the cosines that they came from."""

    def forward(self, trunk):
        tokens = super().forward(trunk)
        self.cosines = trunk.cosines(tokens)
        return tokens


@torch.no_grad()
def test_a_method_reads_patches_as_the_caller_does(siglip_folder):
    backbone, method = SigLIPBackbone(siglip_folder, readout='value'), Twice()
    text = torch.nn.functional.normalize(torch.randn(4, backbone.embed_dim), dim=-1)
    known, images = Surroundings(text=lambda: text), torch.randn(2, 3, 24, 40)
    found = {}
    for readout in ('value', 'map'):
        dense = backbone.dense(images, attention=method, readout=readout, surroundings=known)
        unit = torch.nn.functional.normalize(dense, dim=1)
        found[readout] = torch.einsum('bdhw,qd->bqhw', unit, text)
        torch.testing.assert_close(method.cosines, found[readout])
    assert not torch.allclose(found['map'], found['value'], atol=1e-2)


@torch.no_grad()
def test_cosines_are_not_rounded(backbone):
    text = torch.nn.functional.normalize(torch.randn(4, backbone.embed_dim), dim=-1)
    trunk = Trunk(backbone, torch.randn(1, 3, 24, 40), surroundings=Surroundings(text=lambda: text))
    with torch.autocast('cpu', torch.bfloat16):
        assert (
            trunk.cosines(Tokens(trunk.output(-1), trunk.grid, trunk.prefix)).dtype is torch.float32
        )

import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from contracts.dense_method import ENCODERS, DenseMethodContract
from oracles import attend
from toy_methods import Half

from mmseg_siglip.models.backbones import CLIPBackbone, SigLIPBackbone
from mmseg_siglip.models.dense import build_method
from mmseg_siglip.models.dense.naclip import gaussian_bias

GRID = (3, 5)
MIXING = ('vanilla', 'maskclip', 'csa', 'clearclip', 'naclip')
TRUNK = SimpleNamespace(grid=GRID)
VALUES = ('value', 'value_residual', 'value_cls')


class TestRegisteredMethods(DenseMethodContract):
    cases = [
        (name, kind)
        for name in MIXING + VALUES
        for kind in ENCODERS
        if name != 'value_cls' or kind in ('clip', 'pe', 'pe head', 'tips')
    ]


@pytest.fixture(scope='module')
def backbone(siglip_folder):
    return SigLIPBackbone(siglip_folder)


@pytest.mark.parametrize('name', MIXING)
def test_mix_equals_the_formula(name):
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 2, 1 + 15, 4)
    mixed = build_method(name).mix(q[None], k[None], v[None], TRUNK)[0]
    torch.testing.assert_close(mixed, attend(name, q, k, v, GRID))


def test_rows_of_csa_sum_to_two():
    v = torch.ones(1, 2, 16, 4)
    q, k = torch.randn(2, 1, 2, 16, 4)
    mixed = build_method('csa').mix(q, k, v, TRUNK)
    torch.testing.assert_close(mixed, torch.full_like(mixed, 2.0))


def test_gaussian_bias_by_hand():
    bias = gaussian_bias(GRID, 1)
    assert bias.shape == (16, 16)
    assert bias[0].eq(0).all() and bias[:, 0].eq(0).all()
    assert bias.diag()[1:].eq(1).all()
    knight = torch.tensor(-(2**2 + 1**2) / 50.0).exp()
    torch.testing.assert_close(bias[1, 1 + 2 * 5 + 1], knight)


def test_reduced_methods_drop_residual_and_ffn():
    expected = {
        'vanilla': (True, True),
        'clip': (True, True),
        'maskclip': (False, False),
        'value': (False, True),
        'value_residual': (True, True),
        'maskclip_official': (True, True),
        'value_cls': ('cls', True),
        'csa': (True, True),
        'sclip': (True, True),
        'clearclip': (False, False),
        'naclip': (False, False),
    }
    methods = {name: build_method(name) for name in expected}
    found = {name: (method.residual, method.ffn) for name, method in methods.items()}
    assert found == expected


@pytest.mark.parametrize('name', MIXING + VALUES)
def test_reads_is_what_the_result_depends_on(name):
    torch.manual_seed(0)
    qkv = [torch.randn(1, 2, 15, 4, requires_grad=True) for _ in 'qkv']
    method = build_method(name)
    method.mix(*qkv, TRUNK).square().sum().backward()
    read = [part for part, x in zip('qkv', qkv, strict=True) if x.grad is not None]
    assert method.reads == ''.join(read)


@pytest.mark.parametrize('spec', ['qkv', dict(type='qkv'), dict(type='os.system'), dict()])
def test_unknown_name(spec):
    with pytest.raises(ValueError, match='unknown attention .*; expected one of .*vanilla'):
        build_method(spec)


def test_by_name_by_configuration_and_as_it_is(backbone):
    images = torch.randn(1, 3, 24, 40)
    by_name = backbone.dense(images, attention='naclip')
    torch.testing.assert_close(backbone.dense(images, attention=dict(type='naclip')), by_name)
    torch.testing.assert_close(backbone.dense(images, attention=build_method('naclip')), by_name)


EXPORT = """
import sys, torch
from mmseg_siglip.models.backbones import CLIPBackbone, SigLIPBackbone

class Dense(torch.nn.Module):
    def __init__(self, backbone, name):
        super().__init__()
        self.backbone, self.name = backbone.requires_grad_(False), name

    def forward(self, images):
        return self.backbone.dense(images, attention=self.name)

backbone = SigLIPBackbone(sys.argv[1])
images = torch.randn(2, 3, 32, 48)
for name in sys.argv[2:]:
    module = Dense(backbone, name).eval()
    with torch.no_grad():
        expected = module(images)
        exported = torch.export.export(module, (images,))
        torch.testing.assert_close(exported.module()(images), expected)
        again = module(images)
    assert type(again) is torch.Tensor
    torch.testing.assert_close(again, expected)
print('exported', len(sys.argv) - 2)
"""


def test_every_method_exports_and_the_eager_forward_survives_it(siglip_folder):
    run = subprocess.run(
        [sys.executable, '-c', EXPORT, siglip_folder, *MIXING], capture_output=True, text=True
    )
    assert f'exported {len(MIXING)}' in run.stdout, run.stderr[-2000:]


@torch.no_grad()
def test_a_method_may_return_a_finer_grid(backbone):
    images = torch.randn(2, 3, 24, 40)
    fine = backbone.dense(images, attention=Half())
    assert fine.shape[-2:] == (6, 10)
    plain = backbone.dense(images, attention='vanilla')
    torch.testing.assert_close(fine[..., ::2, 1::2], plain)


def test_a_method_that_works_on_the_trunk_is_refused_on_the_head(backbone):
    with pytest.raises(ValueError, match="site 'head': 'Half' works on 'trunk'"):
        backbone.dense(torch.randn(1, 3, 24, 40), attention=Half(), site='head')


def test_a_class_token_is_asked_for_in_vain(backbone):
    with pytest.raises(
        ValueError, match="'value_cls' needs a CLS token, which SigLIPBackbone has not"
    ):
        backbone.dense(torch.randn(1, 3, 24, 40), attention='value_cls')


@torch.no_grad()
def test_maskclip_as_its_authors_have_it_and_as_others_read_it(openai_file, tiny_clip):
    images = torch.randn(1, 3, 32, 32)
    encoder, visual = CLIPBackbone(openai_file), tiny_clip.visual
    x = encoder.trunk(images).input(-1)[0, 1:]
    block = visual.transformer.resblocks[-1]
    weight, bias = block.attn.in_proj_weight[2 * 128 :], block.attn.in_proj_bias[2 * 128 :]
    alone = block.attn.out_proj(block.ln_1(x) @ weight.T + bias)
    official = alone + x
    official = official + block.mlp(block.ln_2(official))
    for name, tokens in dict(maskclip=alone, maskclip_official=official).items():
        expected = (visual.ln_post(tokens) @ visual.proj).T.reshape(1, -1, 4, 4)
        torch.testing.assert_close(encoder.dense(images, attention=name), expected)

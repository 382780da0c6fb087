"""PE-Core against open_clip's own model, and at other sizes against timm's."""

import json
import shutil

import open_clip
import pytest
import torch
from contracts.encoder import EncoderContract
from open_clip.constants import HF_CONFIG_NAME, HF_SAFE_WEIGHTS_NAME
from tiny_encoders import PE_CONFIG, PE_SIZES, open_clip_model, small_timm, write_open_clip

from mmseg_siglip.models.backbones import PECoreBackbone, build_encoder
from mmseg_siglip.models.backbones.block import attend, split_heads
from mmseg_siglip.models.dense import build_method
from mmseg_siglip.models.pretrainers.siglip_pretrainer import SigLIPPretrainer
from mmseg_siglip.weights import open_clip_checkpoint

TEXTS = ['A photo of a cat.', 'sky', 'a rendering of a rather long description of the sky']


@pytest.fixture(scope='module', autouse=True)
def small():
    with small_timm(**PE_SIZES):
        yield


@pytest.fixture(scope='module')
def stock(small):
    return open_clip_model(PE_CONFIG)


@pytest.fixture(scope='module')
def folder(stock, tmp_path_factory):
    return write_open_clip(tmp_path_factory.mktemp('pe'), PE_CONFIG, stock)


@pytest.fixture(scope='module')
def backbone(folder):
    return PECoreBackbone(folder)


class TestPECore(EncoderContract):
    kind = PECoreBackbone

    @pytest.fixture(scope='class')
    def source(self, folder):
        return folder

    @pytest.fixture(scope='class')
    def description(self):
        return dict(arch=PE_CONFIG)


@torch.no_grad()
def check(backbone, stock, size=(32, 32)):
    images, trunk = torch.randn(2, 3, *size), stock.visual.trunk
    torch.testing.assert_close(backbone.encode_image(images), stock.encode_image(images))
    expected = trunk.forward_intermediates(images, intermediates_only=True)
    taps = backbone.forward_intermediates(images, (0, 1, 2))[1]
    for tap, other in zip(taps, expected, strict=True):
        torch.testing.assert_close(tap, other)
    z = trunk.forward_features(images)[:, backbone.num_prefix :]
    alone = trunk.head(trunk.attn_pool(z.reshape(-1, 1, z.shape[-1])))
    dense = backbone.dense(images, attention='vanilla', readout='map')
    torch.testing.assert_close(dense.permute(0, 2, 3, 1).flatten(0, 2), alone)


@torch.no_grad()
def test_equals_open_clip(backbone, stock):
    check(backbone, stock)
    tokens = open_clip.get_tokenizer('PE-Core-B-16')(TEXTS)
    torch.testing.assert_close(backbone.encode_text(TEXTS), stock.encode_text(tokens))
    assert backbone.logit_scale == pytest.approx(stock.logit_scale.exp().item())
    assert backbone.mean == backbone.std == (127.5,) * 3 and backbone.logit_bias == 0


@pytest.mark.parametrize('size', [(40, 72), (64, 16), (24, 24)])
@pytest.mark.parametrize('cls', [True, False])
def test_other_grids_equal_timms_own(stock, folder, size, cls):
    """Without CLS and its offset, as the largest model has it."""
    form = {} if cls else dict(class_token=False, rope_grid_offset=0.0)
    with small_timm(**PE_SIZES, dynamic_img_size=True, **form):
        dynamic = open_clip_model(PE_CONFIG)
    with small_timm(**PE_SIZES, **form):
        backbone = PECoreBackbone(arch=PE_CONFIG)
    backbone.model.load_state_dict(dynamic.state_dict())
    assert backbone.num_prefix == cls
    check(backbone, dynamic, size)


@torch.no_grad()
def test_what_mixes_in_the_head(backbone, stock):
    """The probe's own attention, for every patch, is the encoder's own vector."""
    images, pool = torch.randn(2, 3, 24, 40), backbone.model.visual.trunk.attn_pool
    probe = split_heads(pool.q(pool.latent), pool.num_heads)
    method = build_method('csa')
    method.mix = lambda q, k, v, trunk: attend(probe.expand_as(q), k, v)
    mixed = backbone.dense(images, attention=method, site='head')
    expected = backbone.encode_image(images)[..., None, None].expand_as(mixed)
    torch.testing.assert_close(mixed, expected, atol=1e-5, rtol=1e-4)
    alone = backbone.dense(images, attention='maskclip', site='head')
    torch.testing.assert_close(alone, backbone.dense(images, attention='vanilla'))


def test_sources(folder, stock, tmp_path, monkeypatch):
    weights = f'{folder}/{HF_SAFE_WEIGHTS_NAME}'
    check(build_encoder(weights), stock)
    bare = shutil.copy(weights, tmp_path)
    with pytest.raises(ValueError, match=f'expected {HF_CONFIG_NAME} beside the weights, or arch'):
        build_encoder(bare)
    check(build_encoder(bare, arch=PE_CONFIG), stock)
    monkeypatch.setattr(open_clip_checkpoint, 'named_config', lambda name: dict(PE_CONFIG))
    monkeypatch.setattr(open_clip_checkpoint, 'download_pretrained', lambda found: weights)
    check(build_encoder('PE-Core-B-16:meta'), stock)
    with pytest.raises(ValueError, match='PE-Core-B-16: expected one of the weights meta; found'):
        build_encoder('PE-Core-B-16:webli')


def test_other_models_are_refused(tmp_path):
    for config in (
        PE_CONFIG | dict(text_cfg=dict(PE_CONFIG['text_cfg'], pool_type='last')),
        PE_CONFIG | dict(vision_cfg=dict(PE_CONFIG['vision_cfg'], timm_pool='avg')),
        PE_CONFIG | dict(vision_cfg=dict(PE_CONFIG['vision_cfg'], timm_model_name=None)),
    ):
        (tmp_path / HF_CONFIG_NAME).write_text(json.dumps(config))
        with pytest.raises(ValueError, match='expected a PE-Core of open_clip'):
            PECoreBackbone(arch=config)
    with pytest.raises(ValueError, match='expected pretrained or arch, found neither'):
        PECoreBackbone()
    with pytest.raises(ValueError, match='logit_bias: expected 0, as this PECore has none'):
        PECoreBackbone(arch=PE_CONFIG).set_logit(scale=1.0, bias=-10.0)


def test_no_patch_can_be_left_out_of_a_turned_grid(folder):
    backbone = dict(type='PECoreBackbone', pretrained=folder)
    with pytest.raises(ValueError, match='max_tokens: .* PECoreBackbone, whose blocks ask where'):
        SigLIPPretrainer(backbone, vocabulary=['cat'], max_tokens=4)

"""SigLIP in open_clip's layout against open_clip's own model."""

import copy
import json
import shutil

import open_clip
import pytest
import torch
from contracts.encoder import EncoderContract
from open_clip.constants import HF_CONFIG_NAME, HF_SAFE_WEIGHTS_NAME
from safetensors.torch import load_file, save_file
from tiny_encoders import open_clip_model, small_timm, write_open_clip, write_tokenizer
from transformers import AutoModel, AutoTokenizer

from mmseg_siglip.models.adapters.open_clip_siglip import siglip_config
from mmseg_siglip.models.backbones import SigLIPBackbone, build_encoder
from mmseg_siglip.weights import open_clip_checkpoint, source

CONFIG = dict(
    embed_dim=32,
    init_logit_bias=-10,
    custom_text=True,
    vision_cfg=dict(
        image_size=32,
        timm_model_name='vit_base_patch16_siglip_224',
        timm_model_pretrained=False,
        timm_pool='map',
        timm_proj='none',
    ),
    text_cfg=dict(
        context_length=16,
        vocab_size=64,
        hf_tokenizer_name='nobody/tokenizer',
        tokenizer_kwargs=dict(clean='canonicalize'),
        width=48,
        heads=4,
        layers=2,
        no_causal_mask=True,
        proj_bias=True,
        pool_type='last',
        norm_kwargs=dict(eps=1e-6),
        act_kwargs=dict(approximate='tanh'),
    ),
)
TEXTS = ['a photo of the cat', 'sky']


@pytest.fixture(scope='module', autouse=True)
def small():
    with small_timm(img_size=32, patch_size=8, embed_dim=32, depth=3, num_heads=4):
        yield


@pytest.fixture(scope='module')
def stock(small):
    return open_clip_model(CONFIG)


@pytest.fixture(scope='module')
def folder(stock, tmp_path_factory):
    folder = tmp_path_factory.mktemp('open_clip_siglip')
    write_tokenizer(folder)
    return write_open_clip(folder, CONFIG, stock, mean=[0.5, 0.4, 0.3], std=[0.2, 0.2, 0.1])


class TestOpenClipSigLIP(EncoderContract):
    kind = SigLIPBackbone

    @pytest.fixture(scope='class')
    def source(self, folder):
        return folder

    @pytest.fixture(scope='class')
    def description(self, folder):
        return dict(config=folder)

    def pooled_text(self, projected, real):
        return projected[:, -1]  # padding or not


@torch.no_grad()
def check(backbone, stock):
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(backbone.encode_image(images), stock.encode_image(images))
    expected = stock.visual.trunk.forward_intermediates(images, intermediates_only=True)
    backbone._requested_indices = (0, 1, 2)
    for tap, other in zip(backbone(images), expected, strict=True):
        torch.testing.assert_close(tap, other)
    ids, _ = backbone.tokenize(TEXTS)
    torch.testing.assert_close(backbone.encode_text(TEXTS), stock.encode_text(ids))
    assert backbone.logit_scale == pytest.approx(stock.logit_scale.exp().item())
    assert backbone.logit_bias == pytest.approx(stock.logit_bias.item())


def test_equals_open_clip(folder, stock):
    backbone = build_encoder(folder)
    check(backbone, stock)
    assert backbone.mean == pytest.approx((127.5, 102, 76.5)) and backbone.text_width == 48
    tokenizer = open_clip.tokenizer.HFTokenizer(folder, context_length=16, clean='canonicalize')
    texts = ['A photo of the CAT.', 'sky!']
    assert torch.equal(backbone.tokenize(texts)[0], tokenizer(texts))


def test_by_name(folder, stock, monkeypatch):
    asked = []
    weights = f'{folder}/{HF_SAFE_WEIGHTS_NAME}'
    monkeypatch.setattr(open_clip_checkpoint, 'named_config', lambda name: copy.deepcopy(CONFIG))
    monkeypatch.setattr(
        open_clip_checkpoint, 'download_pretrained', lambda found: asked.append(found) or weights
    )
    backbone = build_encoder('ViT-B-16-SigLIP2-256:webli', tokenizer=folder)
    check(backbone, stock)
    assert asked[0]['hf_hub'] == 'timm/ViT-B-16-SigLIP2-256/' and backbone.mean == (127.5,) * 3


def test_by_hub_id(folder, stock, monkeypatch):
    def download(repo_id, filename, revision):
        assert (repo_id, revision) == ('some/siglip', 'abc')
        return f'{folder}/{filename}'

    for module in (source, open_clip_checkpoint):
        monkeypatch.setattr(module, 'hf_hub_download', download)
    backbone = SigLIPBackbone('hf-hub:some/siglip', tokenizer=folder, revision='abc')
    check(backbone, stock)


def test_a_bare_file(folder, stock, tmp_path):
    path = shutil.copy(f'{folder}/{HF_SAFE_WEIGHTS_NAME}', tmp_path)
    with pytest.raises(ValueError, match='no configuration of a siglip or siglip2 model'):
        build_encoder(path)
    for config in (CONFIG, dict(model_cfg=CONFIG), folder):
        check(build_encoder(path, config=config, tokenizer=folder), stock)


def test_the_tokenizer_is_the_one_that_the_configuration_names(folder, tmp_path):
    for name in (HF_CONFIG_NAME, HF_SAFE_WEIGHTS_NAME):
        shutil.copy(f'{folder}/{name}', tmp_path)
    with pytest.raises(ValueError, match='nobody/tokenizer: expected tokenizer'):
        build_encoder(str(tmp_path))
    config = json.loads((tmp_path / HF_CONFIG_NAME).read_text())
    config['model_cfg']['text_cfg']['tokenizer_kwargs'] = dict(clean='whitespace')
    (tmp_path / HF_CONFIG_NAME).write_text(json.dumps(config))
    with pytest.raises(ValueError, match="expected tokenizer_kwargs .*, found .*'whitespace'"):
        build_encoder(str(tmp_path))


def test_saved_as_transformers_has_it(folder, stock, tmp_path):
    SigLIPBackbone(folder).save_pretrained(tmp_path)
    check(SigLIPBackbone(str(tmp_path)), stock)
    model = AutoModel.from_pretrained(tmp_path).eval()
    images = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        pooled = model.get_image_features(images).pooler_output
        torch.testing.assert_close(pooled, stock.encode_image(images))
    assert len(AutoTokenizer.from_pretrained(tmp_path)) > 10


@pytest.mark.parametrize(
    'lost', ['attn_pool.latent', 'attn_pool.q.weight', 'attn_pool.mlp.fc1.bias', 'pos_embed']
)
def test_no_weight_is_invented(folder, tmp_path, lost):
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    state = load_file(tmp_path / HF_SAFE_WEIGHTS_NAME)
    state.pop(f'visual.trunk.{lost}')
    save_file(state, tmp_path / HF_SAFE_WEIGHTS_NAME)
    with pytest.raises(ValueError, match=r'expected the .* missing'):
        build_encoder(str(tmp_path))


@pytest.mark.parametrize(
    ('tower', 'change'),
    [
        ('vision_cfg', dict(timm_pool='avg')),
        ('vision_cfg', dict(timm_model_name=None)),
        ('text_cfg', dict(no_causal_mask=False)),
        ('text_cfg', dict(pool_type='argmax')),
        ('text_cfg', dict(hf_model_name='roberta-base')),
    ],
)
def test_other_models_are_refused(tower, change):
    config = CONFIG | {tower: CONFIG[tower] | change}
    with pytest.raises(ValueError, match='x: expected a SigLIP of open_clip, with an attention'):
        siglip_config(config, 'x')


def test_what_transformers_cannot_express():
    config = CONFIG | dict(text_cfg=CONFIG['text_cfg'] | dict(act_kwargs=None), quick_gelu=True)
    with pytest.raises(ValueError, match='expected one activation of the text tower .* None'):
        siglip_config(config, 'x')

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from contracts.encoder import EncoderContract
from transformers import AutoModel, AutoTokenizer

from mmseg_siglip.models.backbones.siglip import SigLIPBackbone
from mmseg_siglip.models.dense import build_method


class TestSigLIP(EncoderContract):
    kind = SigLIPBackbone

    @pytest.fixture(scope='class')
    def source(self, siglip_folder):
        return siglip_folder

    @pytest.fixture(scope='class')
    def description(self, source):
        return dict(config=source)

    def pooled_text(self, projected, real):
        return projected[:, -1]  # padding or not


class TestNaFlex(TestSigLIP):
    @pytest.fixture(scope='class')
    def source(self, naflex_folder):
        return naflex_folder


@pytest.fixture(scope='module')
def stock(siglip_folder):
    return AutoModel.from_pretrained(siglip_folder, dtype=torch.float32).eval()


@pytest.fixture(scope='module')
def backbone(siglip_folder):
    return SigLIPBackbone(siglip_folder)


@pytest.fixture(scope='module')
def naflex(naflex_folder):
    return SigLIPBackbone(naflex_folder)


@pytest.mark.parametrize('size', [(32, 32), (40, 72), (64, 16)])
@torch.no_grad()
def test_pooled_and_raw_equal_transformers(backbone, stock, size):
    images = torch.randn(2, 3, *size)
    out = stock.vision_model(images, interpolate_pos_encoding=True)
    torch.testing.assert_close(backbone.encode_image(images), out.pooler_output)
    raw = backbone.dense(images, attention='vanilla', readout='raw')
    torch.testing.assert_close(raw.flatten(2).transpose(1, 2), out.last_hidden_state)


@torch.no_grad()
def test_native_size_that_patches_do_not_divide_keeps_the_native_grid(siglip_folder):
    """As So400m-14 at 384: 27 x 27 tokens, equal to transformers'."""
    config = json.loads(Path(siglip_folder, 'config.json').read_text())
    config['vision_config']['image_size'] = 37
    model = SigLIPBackbone(config=config)
    images = torch.randn(1, 3, 37, 37)
    assert model.dense(images).shape[2:] == (4, 4)
    expected = model.model.vision_model(images).pooler_output
    torch.testing.assert_close(model.encode_image(images), expected)
    assert model.dense(torch.randn(1, 3, 38, 36)).shape[2:] == (5, 5)


@torch.no_grad()
def test_naflex_equals_transformers(naflex, naflex_folder):
    stock = AutoModel.from_pretrained(naflex_folder, dtype=torch.float32).eval()
    images = torch.randn(2, 3, 40, 72)
    patches = images.unfold(2, 8, 8).unfold(3, 8, 8)
    patches = patches.permute(0, 2, 3, 4, 5, 1).reshape(2, 45, -1)
    out = stock.vision_model(
        pixel_values=patches,
        pixel_attention_mask=torch.ones(2, 45, dtype=torch.long),
        spatial_shapes=torch.tensor([[5, 9], [5, 9]]),
    )
    torch.testing.assert_close(naflex.encode_image(images), out.pooler_output)
    raw = naflex.dense(images, attention='vanilla', readout='raw')
    torch.testing.assert_close(raw.flatten(2).transpose(1, 2), out.last_hidden_state)


@torch.no_grad()
def test_text_equals_transformers(backbone, stock, siglip_folder):
    texts = ['a photo of the cat', 'sky']
    tokenizer = AutoTokenizer.from_pretrained(siglip_folder)
    batch = tokenizer(texts, padding='max_length', max_length=16, return_tensors='pt')
    expected = stock.text_model(input_ids=batch['input_ids']).pooler_output
    torch.testing.assert_close(backbone.encode_text(texts), expected)
    torch.testing.assert_close(backbone.encode_text(['A photo of the CAT.', 'Sky!']), expected)


@torch.no_grad()
def test_map_readout_is_the_models_own_head_on_one_token(backbone, stock):
    images = torch.randn(2, 3, 24, 40)
    tokens = stock.vision_model(images, interpolate_pos_encoding=True).last_hidden_state
    alone = stock.vision_model.head(tokens.reshape(-1, 1, tokens.shape[-1]))
    dense = backbone.dense(images, attention='vanilla', readout='map')
    torch.testing.assert_close(dense.permute(0, 2, 3, 1).reshape(30, -1), alone)


@torch.no_grad()
def test_readouts_by_hand(backbone, stock):
    """o = W_o (W_v z + b_v) + b_o; map adds MLP(LN(o)) to o, not to LN(o)."""
    images = torch.randn(1, 3, 32, 32)
    z = stock.vision_model(images).last_hidden_state[0]
    head = stock.vision_model.head
    value_weight = head.attention.in_proj_weight.chunk(3)[2]
    value_bias = head.attention.in_proj_bias.chunk(3)[2]
    o = (z @ value_weight.T + value_bias) @ head.attention.out_proj.weight.T
    o = o + head.attention.out_proj.bias
    for readout, expected in dict(value=o, map=o + head.mlp(head.layernorm(o)), raw=z).items():
        dense = backbone.dense(images, attention='vanilla', readout=readout)
        torch.testing.assert_close(dense[0].flatten(1).T, expected)


@pytest.mark.parametrize('attention', ['vanilla', 'maskclip', 'csa', 'clearclip', 'naclip'])
@torch.no_grad()
def test_attention_on_the_head_by_hand(backbone, stock, attention):
    images = torch.randn(1, 3, 24, 40)
    grid = (3, 5)
    z = stock.vision_model(images, interpolate_pos_encoding=True).last_hidden_state[0]
    pool = stock.vision_model.head.attention
    q, k, v = (
        (z @ w.T + b).unflatten(1, (4, 8)).transpose(0, 1)
        for w, b in zip(pool.in_proj_weight.chunk(3), pool.in_proj_bias.chunk(3), strict=True)
    )
    place = SimpleNamespace(grid=grid)
    mixed = build_method(attention).mix(q[None], k[None], v[None], place)[0]
    expected = pool.out_proj(mixed.transpose(0, 1).flatten(1))
    dense = backbone.dense(images, attention=attention, readout='value', site='head')
    torch.testing.assert_close(dense[0].flatten(1).T, expected)


@torch.no_grad()
def test_attention_on_the_trunk_by_hand(backbone, stock):
    images = torch.randn(1, 3, 32, 32)
    x = stock.vision_model(images, output_hidden_states=True).hidden_states[-2]
    layer = stock.vision_model.encoder.layers[-1]
    u = layer.layer_norm1(x)
    q, v = (
        project(u).unflatten(-1, (4, 8)).transpose(1, 2)
        for project in (layer.self_attn.q_proj, layer.self_attn.v_proj)
    )
    y = (q @ q.transpose(2, 3) * 8**-0.5).softmax(-1) @ v
    y = stock.vision_model.post_layernorm(layer.self_attn.out_proj(y.transpose(1, 2).flatten(2)))
    dense = backbone.dense(images, attention='clearclip', readout='raw')
    torch.testing.assert_close(dense[0].flatten(1).T, y[0])


def test_no_patch_is_dropped(backbone):
    assert backbone.num_prefix == 0
    assert backbone.image_size == (32, 32) and backbone.patch_size == 8
    assert backbone.dense(torch.randn(1, 3, 32, 32)).shape == (1, 32, 4, 4)


def test_save_round_trip(backbone, tmp_path):
    backbone.save_pretrained(tmp_path)
    again = SigLIPBackbone(str(tmp_path))
    images = torch.randn(1, 3, 32, 32)
    torch.testing.assert_close(again.dense(images), backbone.dense(images))
    torch.testing.assert_close(again.encode_text(['cat']), backbone.encode_text(['cat']))
    assert again.mean == backbone.mean


def test_bare_weight_files(backbone, siglip_folder, tmp_path):
    images = torch.randn(1, 3, 32, 32)
    expected = backbone.dense(images)
    beside = SigLIPBackbone(f'{siglip_folder}/model.safetensors')
    torch.testing.assert_close(beside.dense(images), expected)
    state = {f'backbone.{name}': value for name, value in backbone.state_dict().items()}
    torch.save(dict(meta={}, state_dict=state), tmp_path / 'iter_1.pth')
    trained = SigLIPBackbone(str(tmp_path / 'iter_1.pth'), config=siglip_folder)
    torch.testing.assert_close(trained.dense(images), expected)


def test_half_precision_checkpoints_compute_in_float32(siglip_folder, tmp_path):
    shutil.copytree(siglip_folder, tmp_path / 'half')
    AutoModel.from_pretrained(siglip_folder).half().save_pretrained(tmp_path / 'half')
    model = SigLIPBackbone(str(tmp_path / 'half'))
    assert {p.dtype for p in model.parameters()} == {torch.float32}


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(readout='cls'), "unknown readout 'cls'; expected one of map, value, raw"),
        (dict(site='neck'), "unknown site 'neck'; expected one of auto, trunk, head"),
        (dict(attention='x'), "unknown attention 'x'"),
        (dict(readout='raw', site='head'), "'raw' leaves the pooling head out"),
    ],
)
def test_options(siglip_folder, options, message):
    with pytest.raises(ValueError, match=message):
        SigLIPBackbone(siglip_folder, **options)


def test_missing_weights_are_not_invented(siglip_folder, tmp_path):
    shutil.copytree(siglip_folder, tmp_path / 'broken')
    model = AutoModel.from_pretrained(siglip_folder)
    state = model.state_dict()
    state.pop('vision_model.head.probe')
    model.save_pretrained(tmp_path / 'broken', state_dict=state)
    with pytest.raises(ValueError, match='1 are missing, first vision_model.head.probe'):
        SigLIPBackbone(str(tmp_path / 'broken'))


def test_other_kinds_of_model(tmp_path):
    (tmp_path / 'config.json').write_text('{"model_type": "bert"}')
    with pytest.raises(ValueError, match="expected model_type siglip or siglip2, found 'bert'"):
        SigLIPBackbone(str(tmp_path))


def test_tokenizer_missing(siglip_folder, tmp_path):
    shutil.copytree(siglip_folder, tmp_path / 'bare')
    for name in ('tokenizer.json', 'tokenizer_config.json'):
        (tmp_path / 'bare' / name).unlink()
    with pytest.raises(ValueError, match='expected tokenizer and preprocessor files'):
        SigLIPBackbone(str(tmp_path / 'bare'))


def test_nothing_given_or_too_much(siglip_folder):
    with pytest.raises(ValueError, match='expected pretrained or config, found neither'):
        SigLIPBackbone()
    with pytest.raises(ValueError, match='brings its own configuration'):
        SigLIPBackbone(siglip_folder, config=siglip_folder)

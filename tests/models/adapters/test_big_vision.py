"""SigLIP in big_vision's layout, written out here from transformers' models, against these."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny_encoders import write_tokenizer
from transformers import Siglip2Config, Siglip2Model, SiglipConfig, SiglipModel

from mmseg_siglip.models.adapters import big_vision
from mmseg_siglip.models.backbones import SigLIPBackbone, build_encoder

TOWER = dict(hidden_size=24, intermediate_size=40, num_hidden_layers=2, num_attention_heads=3)
TEXT = dict(
    hidden_size=16,
    intermediate_size=36,
    num_hidden_layers=3,
    num_attention_heads=2,
    vocab_size=64,
    max_position_embeddings=16,
    projection_size=24,
)


def numpy(tensor):
    return tensor.detach().numpy()


def dense(layer):
    """Kernel and bias of a Dense layer of Flax."""
    return numpy(layer.weight.T), numpy(layer.bias)


def put(written, where, kernel, bias):
    written[f'{where}/kernel'], written[f'{where}/bias'] = kernel, bias


def norm(written, where, layer):
    written[f'{where}/scale'], written[f'{where}/bias'] = numpy(layer.weight), numpy(layer.bias)


def attend(written, where, projections, out, heads):
    for name, (weight, bias) in projections.items():
        width = weight.shape[1]
        kernel = numpy(weight.T).reshape(width, heads, -1)
        put(written, f'{where}/{name}', kernel, numpy(bias).reshape(heads, -1))
    kernel, bias = dense(out)
    put(written, f'{where}/out', kernel.reshape(heads, -1, kernel.shape[1]), bias)


def block(written, where, layer, heads):
    norm(written, f'{where}/LayerNorm_0', layer.layer_norm1)
    norm(written, f'{where}/LayerNorm_1', layer.layer_norm2)
    put(written, f'{where}/MlpBlock_0/Dense_0', *dense(layer.mlp.fc1))
    put(written, f'{where}/MlpBlock_0/Dense_1', *dense(layer.mlp.fc2))
    a = layer.self_attn
    parts = dict(query=a.q_proj, key=a.k_proj, value=a.v_proj)
    parts = {name: (part.weight, part.bias) for name, part in parts.items()}
    attend(written, f'{where}/MultiHeadDotProductAttention_0', parts, a.out_proj, heads)


def big_vision_arrays(model, *, stacked=False):
    """The arrays of a ``.npz`` of a transformers SigLIP's weights."""
    vision, text, written = model.vision_model, model.text_model, {}
    patches = vision.embeddings.patch_embedding
    kernel = patches.weight.T if patches.weight.ndim == 2 else patches.weight.permute(2, 3, 1, 0)
    put(written, 'params/img/embedding', numpy(kernel), numpy(patches.bias))
    written['params/img/pos_embedding'] = numpy(vision.embeddings.position_embedding.weight)[None]
    written['params/txt/pos_embedding'] = numpy(text.embeddings.position_embedding.weight)[None]
    written['params/txt/Embed_0/embedding'] = numpy(text.embeddings.token_embedding.weight)
    for where, tower, heads in (
        ('params/img/Transformer', vision, vision.config.num_attention_heads),
        ('params/txt/Encoder_0', text, text.config.num_attention_heads),
    ):
        for number, layer in enumerate(tower.encoder.layers):
            block(written, f'{where}/encoderblock_{number}', layer, heads)
        last = vision.post_layernorm if tower is vision else text.final_layer_norm
        norm(written, f'{where}/encoder_norm', last)
    head = vision.head
    written['params/img/MAPHead_0/probe'] = numpy(head.probe)
    norm(written, 'params/img/MAPHead_0/LayerNorm_0', head.layernorm)
    put(written, 'params/img/MAPHead_0/MlpBlock_0/Dense_0', *dense(head.mlp.fc1))
    put(written, 'params/img/MAPHead_0/MlpBlock_0/Dense_1', *dense(head.mlp.fc2))
    rows = zip(
        ('query', 'key', 'value'),
        head.attention.in_proj_weight.chunk(3),
        head.attention.in_proj_bias.chunk(3),
        strict=True,
    )
    attend(
        written,
        'params/img/MAPHead_0/MultiHeadDotProductAttention_0',
        {name: (weight, bias) for name, weight, bias in rows},
        head.attention.out_proj,
        vision.config.num_attention_heads,
    )
    put(written, 'params/txt/head', *dense(text.head))
    written['params/t'], written['params/b'] = numpy(model.logit_scale), numpy(model.logit_bias)
    return stack(written) if stacked else written


def stack(written):
    """Layers one after the other along an axis of their own."""
    result, layers = {}, {}
    for name, value in written.items():
        before, mark, after = name.partition('/encoderblock_')
        if not mark:
            result[name] = value
            continue
        number, _, rest = after.partition('/')
        layers.setdefault(f'{before}/encoderblock/{rest}', {})[int(number)] = value
    for name, parts in layers.items():
        result[name] = np.stack([parts[number] for number in range(len(parts))])
    return result


def model_of(naflex):
    kind, config = (Siglip2Model, Siglip2Config) if naflex else (SiglipModel, SiglipConfig)
    size = dict(num_patches=16) if naflex else dict(image_size=32)
    torch.manual_seed(3)
    model = kind(config(vision_config=dict(TOWER, patch_size=8, **size), text_config=TEXT)).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.1)
    return model


@pytest.fixture(scope='module')
def tokenizer(tmp_path_factory):
    folder = tmp_path_factory.mktemp('words')
    write_tokenizer(folder)
    return str(folder)


@torch.no_grad()
@pytest.mark.parametrize('stacked', [False, True])
@pytest.mark.parametrize('naflex', [False, True])
def test_equals_transformers(tmp_path, tokenizer, naflex, stacked):
    model = model_of(naflex)
    arrays = big_vision_arrays(model, stacked=stacked)
    np.savez(tmp_path / 'a.npz', **arrays, **{'opt/0/count': np.zeros(1)})
    backbone = build_encoder(str(tmp_path / 'a.npz'), tokenizer=tokenizer)
    assert isinstance(backbone, SigLIPBackbone) and backbone.naflex is naflex
    for name, weight in model.state_dict().items():
        assert torch.equal(backbone.model.state_dict()[name], weight), name
    images = torch.randn(2, 3, 32, 32)
    ids, _ = backbone.tokenize(['a cat', 'sky'])
    torch.testing.assert_close(
        backbone.encode_text(['a cat', 'sky']), model.get_text_features(ids).pooler_output
    )
    assert backbone.mean == (127.5,) * 3 and backbone.image_size == (32, 32)
    if not naflex:
        expected = model.get_image_features(images).pooler_output
        torch.testing.assert_close(backbone.encode_image(images), expected)
        assert backbone.logit_scale == pytest.approx(model.logit_scale.exp().item())
    backbone.save_pretrained(tmp_path / 'folder')
    again = type(model).from_pretrained(tmp_path / 'folder').eval()
    torch.testing.assert_close(again.get_text_features(ids), model.get_text_features(ids))


def test_bfloat16(tmp_path):
    arrays = big_vision_arrays(model_of(False))
    whole = arrays['params/txt/head/kernel'].astype(np.float32)
    half = torch.from_numpy(whole.copy()).bfloat16()
    arrays['params/txt/head/kernel'] = half.view(torch.uint16).numpy().view('V2')
    np.savez(tmp_path / 'a.npz', **arrays)
    head = build_encoder(str(tmp_path / 'a.npz')).model.text_model.head.weight
    assert torch.equal(head, half.float().T)


@pytest.mark.parametrize(
    ('patch', 'image', 'width', 'heads', 'layers', 'positions'),
    [(16, 224, 768, 12, 12, 196), (14, 384, 1152, 16, 27, 729)],
)
def test_published_shapes(patch, image, width, heads, layers, positions):
    """B/16 at 224 and So400m/14 at 384, whose 27 cells do not cover the image."""
    meta = dict(device='meta')
    state = {
        'params/img/embedding/kernel': torch.empty(patch, patch, 3, width, **meta),
        'params/img/pos_embedding': torch.empty(1, positions, width, **meta),
        'params/txt/Embed_0/embedding': torch.empty(32000, width, **meta),
        'params/txt/pos_embedding': torch.empty(1, 64, width, **meta),
        'params/txt/head/kernel': torch.empty(width, width, **meta),
    }
    mlp = {768: 3072, 1152: 4304}[width]
    for where in ('img/Transformer', 'txt/Encoder_0'):
        for number in range(layers):
            block = f'params/{where}/encoderblock_{number}'
            bias = torch.empty(heads, width // heads, **meta)
            state[f'{block}/MultiHeadDotProductAttention_0/query/bias'] = bias
            state[f'{block}/MlpBlock_0/Dense_0/bias'] = torch.empty(mlp, **meta)
    config = big_vision.big_vision_config(state, f'webli_en_x400m_{image}_58765454')
    for tower in (config.vision_config, config.text_config):
        assert (tower.hidden_size, tower.num_attention_heads) == (width, heads)
        assert (tower.num_hidden_layers, tower.intermediate_size) == (layers, mlp)
    assert config.vision_config.image_size == image
    assert (
        big_vision.big_vision_config(state, 'a').vision_config.image_size == image // patch * patch
    )
    assert config.text_config.vocab_size == 32000
    assert config.text_config.max_position_embeddings == 64


def change_drop(arrays):
    del arrays['params/img/Transformer/encoderblock_1/LayerNorm_1/bias']


def change_add(arrays):
    arrays['params/img/head/kernel'] = np.zeros((2, 2), np.float32)


def change_shape(arrays):
    arrays['params/txt/head/bias'] = np.zeros(3, np.float32)


def change_lose(arrays):
    del arrays['params/img/embedding/kernel']


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (change_drop, '1 .first vision_model.encoder.layers.1.layer_norm2.bias. missing'),
        (change_add, 'unknown'),
        (change_shape, 'expected shape .24,. for text_model.head.bias, found .3,.'),
        (change_lose, 'weights of a SigLIP of big_vision .there is no .params/img/embedding'),
    ],
)
def test_what_does_not_fit_is_one_sentence(tmp_path, change, message):
    arrays = big_vision_arrays(model_of(False))
    change(arrays)
    np.savez(tmp_path / 'a.npz', **arrays)
    with pytest.raises(ValueError, match=message) as caught:
        build_encoder(str(tmp_path / 'a.npz'))
    assert str(tmp_path / 'a.npz') in str(caught.value) and '\n' not in str(caught.value)

from __future__ import annotations

import pytest
import torch

pytest.importorskip('onnxruntime')

from small_graphs import FACTS, write_graph  # noqa: E402

from mmseg_siglip.onnx.encoder import ONNXEncoder, some  # noqa: E402
from mmseg_siglip.onnx.graph import Graph  # noqa: E402


@pytest.fixture
def encoder(tmp_path):
    return ONNXEncoder(Graph(write_graph(tmp_path / 'file.onnx')))


def test_features_of_any_size_are_those_of_the_padded_image(encoder):
    images = torch.randn(2, 3, 12, 17)
    padded = torch.nn.functional.pad(images, (0, 7, 0, 4))
    found = encoder.dense(images)
    assert found.shape == (2, 3, 2, 3)
    assert torch.allclose(found, torch.nn.functional.avg_pool2d(padded, 8), atol=1e-6)


def test_words_are_those_of_the_graph(encoder):
    assert encoder.embed_words(['lime', 'red']).tolist() == [[0, 0, 1], [1, 0, 0]]
    with pytest.raises(ValueError, match=r"words of the graph \(red, green, lime\), found 'Red'"):
        encoder.embed_words(['Red'])


def test_it_tells_sizes_and_statistics(encoder):
    assert (encoder.image_size, encoder.patch_size, encoder.embed_dim) == ((64, 64), 8, 3)
    assert (encoder.mean, encoder.logit_scale, encoder.logit_bias) == ((127.5,) * 3, 10.0, 0.0)


@pytest.mark.parametrize('name', ['encode_image', 'forward', 'encode_text', 'towers'])
def test_what_is_inside_is_refused(encoder, name):
    with pytest.raises(ValueError, match='expected an encoder in torch, found an ONNX graph'):
        getattr(encoder, name)(*([torch.zeros(1, 3, 16, 16)] * (name != 'towers')))


@pytest.mark.parametrize(
    'own', [dict(logit_scale='x'), dict(logit_scale=1e9), dict(normalise=1), dict(normalise=None)]
)
def test_a_strangers_values_are_refused(tmp_path, own):
    path = write_graph(tmp_path / 'file.onnx', own=FACTS['dense'].own | own)
    with pytest.raises(ValueError, match=f'file.onnx: expected .*{next(iter(own))}'):
        ONNXEncoder(Graph(path))


def test_a_graph_of_another_kind_is_refused(tmp_path):
    with pytest.raises(ValueError, match='expected a dense graph, found a depth one'):
        ONNXEncoder(Graph(write_graph(tmp_path / 'file.onnx', 'depth')))


def test_few_words_are_shown():
    assert some(['a', 'b']) == 'a, b' and some('abcdefghij', most=3) == 'a, b, c and 7 more'

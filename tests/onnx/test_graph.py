from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

onnx = pytest.importorskip('onnx')
pytest.importorskip('onnxruntime')

from onnx import helper, numpy_helper  # noqa: E402
from small_graphs import small_graph, write_graph  # noqa: E402

from mmseg_siglip.cli.jobs.label import weights_digest  # noqa: E402
from mmseg_siglip.onnx.depth import ONNXDepthEstimator  # noqa: E402
from mmseg_siglip.onnx.graph import Graph  # noqa: E402
from mmseg_siglip.onnx.segmentors import ONNXSegmentor  # noqa: E402


def refused(tmp_path, model, match):
    path = tmp_path / 'file.onnx'
    path.write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
    with pytest.raises(ValueError, match=match) as caught:
        Graph(path)
    assert str(path) in str(caught.value) and '\n' not in str(caught.value)


def test_it_runs_and_knows_its_words(tmp_path):
    graph = Graph(write_graph(tmp_path / 'file.onnx'))
    images = torch.randn(2, 3, 16, 24)
    assert torch.allclose(graph(images), torch.nn.functional.avg_pool2d(images, 8), atol=1e-6)
    assert torch.equal(graph.words, torch.eye(3)) and graph.facts.queries == (
        'red',
        'green',
        'lime',
    )


@pytest.mark.parametrize('size', [(16, 20), (4, 16), (63, 64)])
def test_sizes_that_are_no_whole_patches_are_refused(tmp_path, size):
    graph = Graph(write_graph(tmp_path / 'file.onnx'))
    with pytest.raises(ValueError, match='expected sides in whole patches of 8 pixels') as caught:
        graph(torch.zeros(1, 3, *size))
    assert f'found {size[0]}x{size[1]} pixels (height x width)' in str(caught.value)


def test_padding_is_outside(tmp_path):
    graph = Graph(write_graph(tmp_path / 'file.onnx'))
    image = torch.ones(1, 3, 12, 20)
    fitted = graph.fit(image)
    assert fitted.shape == (1, 3, 16, 24) and torch.equal(fitted[..., :12, :20], image)
    assert fitted.sum() == image.sum()
    graph = Graph(write_graph(tmp_path / 'file.onnx', native=(67, 64)))
    assert graph.fit(torch.ones(1, 3, 67, 64)).shape == (1, 3, 64, 64)  # as the encoder does


def test_a_graph_of_one_size_takes_no_other(tmp_path):
    graph = Graph(write_graph(tmp_path / 'file.onnx', 'cat_seg'))
    assert graph(torch.zeros(3, 3, 64, 64)).shape == (3, 3, 8, 8)  # one after another
    with pytest.raises(ValueError, match=r'expected images of 64x64 pixels .*, found 64x72'):
        graph(torch.zeros(1, 3, 64, 72))
    with pytest.raises(ValueError, match=r'expected \(B, 3, H, W\), found \(3, 64, 64\)'):
        graph(torch.zeros(3, 64, 64))


def test_what_is_no_graph_is_refused(tmp_path):
    refused(tmp_path, b'no protobuf', 'expected an ONNX file')
    model = small_graph()
    del model.metadata_props[:]
    refused(tmp_path, model, "`mmseg-siglip export-onnx` wrote, found one without 'mmseg_siglip'")
    with pytest.raises(ValueError, match='found none there'):
        Graph(tmp_path / 'nothing.onnx')


def test_data_outside_of_the_file_is_refused(tmp_path):
    model = small_graph()
    (tmp_path / 'words.bin').write_bytes(np.ones((3, 3), np.float32).tobytes())
    onnx.external_data_helper.set_external_data(model.graph.initializer[0], 'words.bin')
    model.graph.initializer[0].ClearField('raw_data')
    refused(tmp_path, model, 'expected all data inside of the file, found some elsewhere')


def test_a_constant_outside_of_the_file_is_refused(tmp_path):
    model = small_graph()
    value = numpy_helper.from_array(np.ones(3, np.float32), 'value')
    onnx.external_data_helper.set_external_data(value, '/etc/passwd')
    value.ClearField('raw_data')
    model.graph.node.append(helper.make_node('Constant', [], ['value'], value=value))
    refused(tmp_path, model, 'expected all data inside of the file')


def test_operators_of_others_are_refused(tmp_path):
    model = small_graph()
    model.graph.node[0].domain = 'com.example'
    refused(tmp_path, model, "found AveragePool of 'com.example'")


def test_control_flow_is_refused(tmp_path):
    model = small_graph()
    body = helper.make_graph([], 'body', [], [])
    model.graph.node.append(helper.make_node('Loop', ['', ''], ['x'], body=body))
    refused(tmp_path, model, 'expected no control flow, found Loop')


def test_functions_are_refused(tmp_path):
    model = small_graph()
    model.functions.append(
        helper.make_function('own', 'F', ['x'], ['x'], [], [helper.make_opsetid('', 20)])
    )
    refused(tmp_path, model, 'found functions in it')


def test_other_embeddings_are_refused(tmp_path):
    model = small_graph()
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.ones((2, 3), 'f'), 'words'))
    refused(tmp_path, model, r'expected embeddings \[3, 3\] of its words')
    model.graph.initializer[0].CopyFrom(
        numpy_helper.from_array(np.full((3, 3), np.nan, 'f'), 'words')
    )
    refused(tmp_path, model, 'expected embeddings of finite numbers')


def test_a_graph_that_cannot_run_is_refused_in_a_line(tmp_path, capfd):
    model = small_graph()
    model.graph.node[0].input[0] = 'nothing'
    refused(tmp_path, model, 'onnxruntime cannot run this graph')
    model = small_graph()
    model.graph.node[0].attribute[0].ints[:] = [999, 999]
    path = tmp_path / 'late.onnx'
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ValueError, match='late.onnx: onnxruntime cannot run this graph'):
        Graph(path)(torch.zeros(1, 3, 16, 16))
    assert capfd.readouterr().err == ''


def test_a_vast_file_is_refused(tmp_path):
    path = tmp_path / 'vast.onnx'
    with path.open('wb') as file:
        file.truncate(2**30 + 1)
    with pytest.raises(ValueError, match='expected at most 1073741824'):
        Graph(path)


@pytest.mark.parametrize('name', ['onnx', 'onnxruntime'])
def test_without_the_extra_a_sentence_says_how_to_get_it(tmp_path, monkeypatch, name):
    path = write_graph(tmp_path / 'file.onnx')
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=r"pip install 'mmseg_siglip\[onnx\]'") as caught:
        Graph(path)
    assert f'found no {name}' in str(caught.value)


@pytest.mark.parametrize(
    ('kind', 'changes', 'message'),
    [
        ('cat_seg', dict(channels=4), r'\(1, 4, any, any\) as logits, found float32 of'),
        (
            'depth',
            dict(channels=4),
            r'\(1, 4, any, any\) as maps, found .* \(1, 1, 64, 64\)',
        ),
        ('dense', dict(patch=16), r'\(1, 3, 4, 4\) as features, found float32 of \(1, 3, 8, 8\)'),
    ],
)
def test_outputs_that_are_other_than_the_graph_says(tmp_path, kind, changes, message):
    graph = Graph(write_graph(tmp_path / 'x.onnx', kind, **changes))
    with pytest.raises(ValueError, match=message):
        graph(torch.zeros(1, 3, 64, 64))


def test_weights_of_two_graphs_are_told_apart(tmp_path):
    """By whatever asks for all that a model's results depend on."""
    found = set()
    for name, changes in (('a', {}), ('b', dict(std=(120.0,) * 3)), ('c', {})):
        model = ONNXDepthEstimator(
            Graph(write_graph(tmp_path / f'{name}.onnx', 'depth', **changes))
        )
        words = ONNXSegmentor(Graph(write_graph(tmp_path / f'{name}_.onnx', 'dense', **changes)))
        found |= {weights_digest(model), weights_digest(words)}
    assert len(found) == 4

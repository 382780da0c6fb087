from __future__ import annotations

import pytest
import torch

pytest.importorskip('onnxruntime')

from small_graphs import write_graph  # noqa: E402

from mmseg_siglip.onnx.depth import ONNXDepthEstimator  # noqa: E402
from mmseg_siglip.onnx.graph import Graph  # noqa: E402


def test_maps_are_those_of_the_image_itself(tmp_path):
    """The graph gives the mean of the channels; padding is cut off again."""
    model = ONNXDepthEstimator(Graph(write_graph(tmp_path / 'file.onnx', 'depth')))
    image = torch.rand(3, 13, 21)
    (found,) = model.predict_maps([image])
    assert torch.allclose(found[0], image.mean(0), atol=1e-6)
    assert model.predicts == 'depth' and not model.has_normals


def test_windows_and_flips(tmp_path):
    config = dict(mode='slide', crop_size=(16, 16), stride=(8, 8), flip=True)
    graph = Graph(write_graph(tmp_path / 'file.onnx', 'depth'))
    image = torch.rand(3, 20, 35)
    (found,) = ONNXDepthEstimator(graph, test_cfg=config).predict_maps([image])
    assert torch.allclose(found[0], image.mean(0), atol=1e-6)


def test_other_graphs_are_refused(tmp_path):
    with pytest.raises(ValueError, match='expected a graph of depth, found None'):
        ONNXDepthEstimator(Graph(write_graph(tmp_path / 'a.onnx')))
    path = write_graph(tmp_path / 'b.onnx', 'depth', own=dict(predicts='weather'))
    with pytest.raises(ValueError, match="found 'weather'"):
        ONNXDepthEstimator(Graph(path))

"""A graph of the system that ships along, written once."""

from __future__ import annotations

import pytest

from mmseg_siglip.api.shipped import build_shipped

WORDS = 'circle, square|box, star, heart, brick, grass'


@pytest.fixture(scope='session')
def shapes():
    """The training-free segmenter that ships along, in float32, cut to two of its six blocks: a
    graph takes a second a block to trace, and as much again to translate."""
    segmenter = build_shipped('tiny_siglip_shapes', device='cpu', precision='fp32')
    del segmenter.model.backbone.model.vision_model.encoder.layers[2:]
    return segmenter


@pytest.fixture(scope='session')
def dense_file(shapes, tmp_path_factory):
    """Its graph, and how that compares with torch."""
    pytest.importorskip('onnxruntime')
    pytest.importorskip('onnxscript')
    path = tmp_path_factory.mktemp('onnx') / 'shapes.onnx'
    return path, shapes.export_onnx(path, WORDS)

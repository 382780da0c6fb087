from __future__ import annotations

import numpy as np
import pytest

from mmseg_siglip.api import DepthPredictor, OpenVocabSegmenter, System
from mmseg_siglip.api.graphs import is_graph
from mmseg_siglip.api.shipped import build_shipped

pytest.importorskip('onnxruntime')

from small_graphs import FACTS, write_graph  # noqa: E402

from mmseg_siglip.datasets.shapes_world.scene import generate, scene_seed  # noqa: E402

WORDS = 'circle, square|box, grass'


def test_names_of_graphs():
    assert is_graph('a/x.onnx') and not is_graph('x.onnx.zip') and not is_graph('ViT-B/16')


def test_a_segmenter_by_its_graph(tmp_path):
    segmenter = OpenVocabSegmenter.from_pretrained(str(write_graph(tmp_path / 'x.onnx')))
    image = np.zeros((40, 48, 3), np.uint8)
    image[:, :24, 0] = image[:, 24:, 1] = 255
    image[image == 0] = 127
    found = segmenter(image, 'lime|green, red')
    assert found.classes == ('lime', 'red') and found.labels.shape == (40, 48)
    assert found.labels[20, 4] == 1 and found.labels[20, 44] == 0
    assert segmenter.compute_dense_similarity(image, ['red']).shape == (1, 5, 6)
    with pytest.raises(ValueError, match="expected words of the graph .* found 'cat'"):
        segmenter(image, 'cat')


def test_any_system_by_its_graph(tmp_path):
    assert System.from_pretrained(write_graph(tmp_path / 'x.onnx')).task == 'segment'
    depth = System.from_pretrained(write_graph(tmp_path / 'y.onnx', 'depth'))
    assert isinstance(depth, DepthPredictor) and depth.unit == 'metre'
    assert depth(np.full((9, 20, 3), 51, np.uint8)).depth == pytest.approx(np.full((9, 20), 0.2))
    with pytest.raises(ValueError, match='expected a graph of the task segment, found a depth'):
        OpenVocabSegmenter.from_pretrained(tmp_path / 'y.onnx')


def test_settings_and_options(tmp_path):
    path = write_graph(tmp_path / 'x.onnx', settings=dict(short_side=32, background_index=None))
    assert OpenVocabSegmenter.from_pretrained(path).short_side == 32
    assert OpenVocabSegmenter.from_pretrained(path, short_side=64).short_side == 64
    for options in (dict(method='csa'), dict(templates='plain'), dict(guide='x')):
        with pytest.raises(ValueError, match='expected neither method nor other options'):
            OpenVocabSegmenter.from_pretrained(path, **options)
    strange = write_graph(tmp_path / 'y.onnx', settings=dict(short_side='x', background_index=None))
    with pytest.raises(ValueError, match='short_side: expected 1 to'):
        OpenVocabSegmenter.from_pretrained(strange)
    unknown = write_graph(tmp_path / 'z.onnx', settings=FACTS['dense'].settings | dict(path='x'))
    with pytest.raises(ValueError, match="a difference in 'path'"):
        OpenVocabSegmenter.from_pretrained(unknown)


@pytest.mark.parametrize(
    'model',
    [
        dict(postprocessor=dict(type='torch.nn.Linear')),
        dict(postprocessor=dict(type='PAMRPostProcessor', path='/etc/passwd')),
        dict(data_preprocessor=dict(type='mmengine.runner.Runner')),
        dict(label_steps=[dict(type='Nothing')]),
    ],
)
def test_a_strangers_file_builds_nothing_else(tmp_path, model):
    path = write_graph(tmp_path / 'x.onnx', model=model)
    with pytest.raises(ValueError, match=r'x\.onnx: '):
        OpenVocabSegmenter.from_pretrained(path)


def test_what_has_no_graph_is_refused(tmp_path):
    referring = build_shipped('shapes_refer', device='cpu', precision='fp32')
    with pytest.raises(ValueError, match='expected a model of .* to export, found a'):
        referring.export_onnx(tmp_path / 'x.onnx')
    segmenter = build_shipped('tiny_siglip_shapes', device='cpu', precision='fp32')
    bare = OpenVocabSegmenter(segmenter.model, short_side=None)
    with pytest.raises(ValueError, match='found one of a model that was built elsewhere'):
        bare.export_onnx(tmp_path / 'x.onnx', WORDS)
    segmenter.description = dict(segmenter.description, label_steps=[object()])
    with pytest.raises(ValueError, match='cannot be told as data: expected plain values'):
        segmenter.export_onnx(tmp_path / 'x.onnx', WORDS)
    assert not [*tmp_path.iterdir()]


@pytest.mark.slow
@pytest.mark.parametrize('source', ['tiny_siglip_shapes', 'shapes_cat_seg'])
def test_a_graph_segments_as_its_system(source, tmp_path):
    """With windows and refinement, of images that patches do not divide."""
    pytest.importorskip('onnxscript')
    segmenter = build_shipped(source, device='cpu', precision='fp32')
    words = WORDS if source == 'tiny_siglip_shapes' else 'red circle, blue square, grass'
    segmenter.export_onnx(tmp_path / 'x.onnx', words)
    graph = OpenVocabSegmenter.from_pretrained(tmp_path / 'x.onnx')
    for index, size in enumerate([(64, 96), (67, 101), (90, 64)]):
        image = generate(scene_seed('test', index), size=size).image
        wanted, found = segmenter(image, words), graph(image, words)
        assert found.classes == wanted.classes
        assert np.abs(found.scores - wanted.scores).max() < 1e-3
        assert (found.labels == wanted.labels).mean() > 0.999


@pytest.mark.slow
def test_a_graph_measures_as_its_system(tmp_path):
    pytest.importorskip('onnxscript')
    predictor = build_shipped('shapes_depth', device='cpu', precision='fp32')
    predictor.export_onnx(tmp_path / 'x.onnx')
    graph = DepthPredictor.from_pretrained(tmp_path / 'x.onnx')
    for index, size in enumerate([(64, 64), (50, 70), (17, 99)]):
        image = generate(scene_seed('test', index), size=size).image
        assert np.abs(graph(image).depth - predictor(image).depth).max() < 1e-3

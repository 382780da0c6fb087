from __future__ import annotations

import pytest
import torch

pytest.importorskip('onnxruntime')

from small_graphs import FACTS, write_graph  # noqa: E402

from mmseg_siglip.onnx.graph import Graph  # noqa: E402
from mmseg_siglip.onnx.segmentors import ONNXCATSegSegmentor, ONNXSegmentor  # noqa: E402


def halves(size=(64, 64)):
    """An image, normalised, that is red on the left and green on the right."""
    image = torch.zeros(3, *size)
    image[0, :, : size[1] // 2] = image[1, :, size[1] // 2 :] = 1
    return image


def test_patches_meet_the_words_of_the_graph(tmp_path):
    model = ONNXSegmentor(Graph(write_graph(tmp_path / 'file.onnx')), test_cfg=dict(mode='whole'))
    (found,) = model.predict([halves()])
    labels = found.pred_sem_seg.data[0]
    assert (labels[:, :28] == 0).all() and (labels[:, 36:] == 1).all()
    model.set_vocabulary(['green', 'red'])
    (swapped,) = model.predict([halves()])
    assert (swapped.pred_sem_seg.data[0][:, :28] == 1).all()
    with pytest.raises(ValueError, match="expected words of the graph .* found 'blue'"):
        model.set_vocabulary(['red', 'blue'])
    assert model.vocabulary.names == ('green', 'red')  # as before


def test_windows_of_any_size(tmp_path):
    config = dict(mode='slide', crop_size=(24, 20), stride=(12, 11), window_batch=2)
    model = ONNXSegmentor(Graph(write_graph(tmp_path / 'file.onnx')), test_cfg=config)
    (found,) = model.predict([halves((50, 70))])
    assert found.pred_sem_seg.data.shape == (1, 50, 70)


def test_a_background_stays(tmp_path):
    own = FACTS['dense'].own | dict(background=1)
    graph = Graph(write_graph(tmp_path / 'file.onnx', own=own))
    assert ONNXSegmentor(graph, prob_thd=0.5).background_index == 1
    for strange in (2, -1, 'x', True):
        path = write_graph(tmp_path / 'file.onnx', own=own | dict(background=strange))
        with pytest.raises(ValueError, match='expected a class as background'):
            ONNXSegmentor(Graph(path))


def test_a_cat_seg_knows_all_of_its_words_or_none(tmp_path):
    model = ONNXCATSegSegmentor(Graph(write_graph(tmp_path / 'file.onnx', 'cat_seg')))
    (found,) = model.predict([halves()])
    labels = found.pred_sem_seg.data[0]
    assert (labels[:, :28] == 0).all() and (labels[:, 36:] == 1).all()
    model.set_vocabulary(['red', 'green', 'blue'])
    for words in (['red', 'green'], ['green', 'red', 'blue'], ['red', 'green', 'grass']):
        with pytest.raises(ValueError, match='expected the 3 classes that the graph was written'):
            model.set_vocabulary(words)


def test_a_cat_seg_cuts_views_and_refuses_others(tmp_path):
    graph = Graph(write_graph(tmp_path / 'file.onnx', 'cat_seg'))
    config = dict(mode='slide', crop_size=(64, 64), stride=(32, 32))
    model = ONNXCATSegSegmentor(graph, test_cfg=config)
    (found,) = model.predict([halves((70, 100))])
    assert found.pred_sem_seg.data.shape == (1, 70, 100)
    with pytest.raises(ValueError, match='expected images of 64x64 pixels .*, found 48x64'):
        model.predict([halves((48, 80))])
    model = ONNXCATSegSegmentor(graph, encoder_size=(64, 64))
    (found,) = model.predict([halves((48, 80))])
    assert found.pred_sem_seg.data.shape == (1, 48, 80)
    with pytest.raises(ValueError, match='interpolation: expected one of'):
        ONNXCATSegSegmentor(graph, interpolation='area')

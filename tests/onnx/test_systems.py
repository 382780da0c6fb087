from __future__ import annotations

import pytest

pytest.importorskip('onnxruntime')

from small_graphs import write_graph  # noqa: E402

from mmseg_siglip.onnx.graph import Graph  # noqa: E402
from mmseg_siglip.onnx.systems import RUNS, model_of, open_graph  # noqa: E402


def test_each_kind_has_its_model(tmp_path):
    for kind, runs in RUNS.items():
        path = write_graph(tmp_path / f'{kind}.onnx', kind)
        graph = open_graph(path, runs.task, device=None, precision='auto')
        assert type(model_of(graph)) is runs.model and issubclass(runs.model, runs.like)


def test_it_runs_on_the_cpu_in_its_own_format(tmp_path):
    path = write_graph(tmp_path / 'file.onnx')
    open_graph(path, None, device='cpu', precision='fp32')
    for options, match in (
        (dict(device='cuda:0', precision='auto'), "expected device='cpu'"),
        (dict(device=None, precision='bf16'), "expected precision='fp32' or 'auto'"),
    ):
        with pytest.raises(ValueError, match=match):
            open_graph(path, None, **options)
    with pytest.raises(ValueError, match='expected a graph of the task depth, found a dense'):
        open_graph(path, 'depth', device=None, precision='auto')


@pytest.mark.parametrize(
    ('model', 'match'),
    [
        (dict(backbone=dict(pretrained='x')), "found 'backbone'"),
        (dict(graph=3), "found 'graph'"),
        (dict(compile_backend='inductor'), "found 'compile_backend'"),
        (dict(test_cfg=dict(mode='other')), "expected 'slide' or 'whole'"),
        (dict(postprocessor=dict(type='PAMRPostProcessor', num_iter='x')), 'file.onnx: '),
        (dict(prob_thd=0.5), 'need a background'),
    ],
)
def test_what_fits_no_model_is_refused(tmp_path, model, match):
    graph = Graph(write_graph(tmp_path / 'file.onnx', model=model))
    with pytest.raises(ValueError, match=match) as caught:
        model_of(graph)
    assert str(caught.value).startswith(str(graph.path))

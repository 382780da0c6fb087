"""The model of a graph, for the system that has it."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
from mmengine.registry import DefaultScope
from torch import nn

from mmseg_siglip.models.segmentors import (
    CATSegSegmentor,
    SCLIPSegmentor,
    SigLIPDepthEstimator,
)
from mmseg_siglip.onnx.depth import ONNXDepthEstimator
from mmseg_siglip.onnx.graph import Graph
from mmseg_siglip.onnx.parts import CATSegPart, DensePart, DepthPart
from mmseg_siglip.onnx.segmentors import ONNXCATSegSegmentor, ONNXSegmentor
from mmseg_siglip.precision import compute_dtype
from mmseg_siglip.registry import SCOPE


class Runs(NamedTuple):
    """What a kind of graph is run by.

    Attributes:
        task: See `mmseg_siglip.api.SYSTEMS`.
        model: The class that is called with the graph and with what stays outside.
        like: The class in torch whose arguments the latter are.
        keeps: The names of those.
    """

    task: str
    model: type[nn.Module]
    like: type[nn.Module]
    keeps: tuple[str, ...]


RUNS = {
    part.kind: Runs(task, model, like, part.keeps)
    for part, task, model, like in (
        (DensePart, 'segment', ONNXSegmentor, SCLIPSegmentor),
        (CATSegPart, 'segment', ONNXCATSegSegmentor, CATSegSegmentor),
        (DepthPart, 'depth', ONNXDepthEstimator, SigLIPDepthEstimator),
    )
}
"""By the kind of graph; a tower belongs to no system."""


def open_graph(
    path: str | Path, task: str | None, *, device: str | torch.device | None, precision: str
) -> Graph:
    """The graph of a file, for a task, or any.

    Raises:
        ImportError, OSError: See `Graph`.
        ValueError: See `Graph`; or it is of another task, or asked to run elsewhere.
    """
    if device is not None and torch.device(device).type != 'cpu':
        raise ValueError(f"{path}: expected device='cpu' for an ONNX file, found {device}")
    if precision != 'auto' and compute_dtype(precision, torch.device('cpu')) != torch.float32:
        raise ValueError(
            f"{path}: expected precision='fp32' or 'auto' for an ONNX file, whose format is its "
            f'own, found {precision!r}'
        )
    graph = Graph(path)
    runs = RUNS.get(graph.facts.kind)
    if runs is None or task not in (None, runs.task):
        raise ValueError(
            f'{path}: expected a graph of the task {task or "of a system"}, found a '
            f'{graph.facts.kind} graph'
        )
    return graph


def model_of(graph: Graph) -> nn.Module:
    """The model that a graph is run by. What its file says stays outside has been looked through.

    Raises:
        ValueError: That fits no such model.
    """
    runs = RUNS[graph.facts.kind]
    if strange := sorted(graph.facts.model.keys() - set(runs.keeps)):
        raise ValueError(
            f'{graph.path}: expected {", ".join(runs.keeps)} beside the graph, found {strange[0]!r}'
        )
    try:
        with DefaultScope.overwrite_default_scope(SCOPE):
            return runs.model(graph, **graph.facts.model)
    except ValueError as error:
        raise ValueError(f'{graph.path}: {error}') from error
    except (TypeError, KeyError, AttributeError) as error:
        raise ValueError(f'{graph.path}: no model can be made of it ({error})') from error

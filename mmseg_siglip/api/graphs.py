"""Systems into ONNX files and back.

Importing this is quick: what graphs need comes when one is asked for.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from mmseg_siglip.onnx import SUFFIX

if TYPE_CHECKING:
    import torch
    from torch import nn

    from mmseg_siglip.api.system import System
    from mmseg_siglip.onnx.export import Agreement


def is_graph(source: object) -> bool:
    """Whether a source is named as an ONNX file."""
    return str(source).lower().endswith(SUFFIX)


class GraphModel(NamedTuple):
    """What an ONNX file holds of a system.

    Attributes:
        task: See `SYSTEMS`.
        model: Its model, which runs the graph.
        settings: See `System.settings`.
    """

    task: str
    model: nn.Module
    settings: dict[str, Any]

    @classmethod
    def open(
        cls,
        source: str | Path,
        task: str | None,
        *,
        device: str | torch.device | None,
        precision: str,
    ) -> GraphModel:
        """Read a file that `export_system` wrote.

        Args:
            source: The file.
            task: That it shall be of; None takes any.
            device: The CPU, or None.
            precision: ``auto`` or ``fp32``.

        Raises:
            ImportError: onnx or onnxruntime is not installed.
            ValueError: It is no such file, or of another task, or asked for what it cannot do.
        """
        from mmseg_siglip.api.description import check_data
        from mmseg_siglip.onnx.systems import RUNS, model_of, open_graph

        graph = open_graph(source, task, device=device, precision=precision)
        runs = RUNS[graph.facts.kind]
        check_data(dict(graph.facts.model, type=runs.like.__name__), source)
        return cls(runs.task, model_of(graph), graph.facts.settings)


def export_system(
    system: System,
    path: str | Path,
    prompt: Any = None,
    *,
    size: int | Sequence[int] | None = None,
    int8: bool = False,
) -> Agreement:
    """See `System.export_onnx`."""
    from mmseg_siglip.api.description import check_data
    from mmseg_siglip.onnx.export import export_graph
    from mmseg_siglip.onnx.parts import graph_part

    if system.description is None:
        raise ValueError(
            f'{type(system).__name__}: expected a system of from_pretrained or from_config to '
            'export, found one of a model that was built elsewhere'
        )
    if prompt is not None:
        system.check_prompt(prompt)
    part = graph_part(system.model)
    where = f'{path}: the model cannot be told as data'
    try:
        outside = json.loads(json.dumps(part.outside(system.description)))
    except (TypeError, ValueError) as error:
        raise ValueError(f'{where}: expected plain values ({error})') from error
    check_data(dict(outside, type=system.description['type']), where)
    return export_graph(part, path, outside=outside, settings=system.settings, size=size, int8=int8)

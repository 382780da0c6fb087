"""Models as ONNX files: traced by torch, run by onnxruntime, and kept where both say the same.

Shapes: B images (3, H, W), whole patches of side p.
"""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.export import Dim
from torch.torch_version import TorchVersion

from mmseg_siglip.io.files import write_atomically
from mmseg_siglip.io.regular_file import MAX_BYTES
from mmseg_siglip.models.backbones.base import VisionLanguageBackbone
from mmseg_siglip.models.backbones.vision_trunk import patch_grid
from mmseg_siglip.models.sizes import MOST_SIDE, pair
from mmseg_siglip.onnx import SUFFIX
from mmseg_siglip.onnx.facts import KEY, GraphFacts, size_text
from mmseg_siglip.onnx.graph import IMAGES, Graph, require_onnx
from mmseg_siglip.onnx.parts import Part
from mmseg_siglip.precision import compute_dtype
from mmseg_siglip.weights.foreign import first_line

if TYPE_CHECKING:
    from onnx import ModelProto

CLOSE = 1e-4
"""Largest difference of a graph from torch, of numbers around 1; of larger ones, in parts of the
largest."""
TRACED = (2, 6, 9)
"""Images, and rows and columns of patches, that a graph for any size is traced with."""
GUARDED = 'whole_patches'
TRACES = '2.11'
"""The oldest torch that has traced graphs here; 2.6 could not."""


@dataclass(frozen=True)
class Agreement:
    """How a graph that was written compares with torch.

    Attributes:
        path: The file.
        sizes: (H, W) that were compared.
        largest: The largest difference of any output, in parts of the largest number in it or,
            where that is below 1, as it is.
        facts: Of the graph.
    """

    path: Path
    sizes: tuple[tuple[int, int], ...]
    largest: float
    facts: GraphFacts

    def __str__(self) -> str:
        sizes = ', '.join(f'{height}x{width}' for height, width in self.sizes)
        takes = 'any size in whole patches'
        if self.facts.size is not None:
            takes = size_text(self.facts.size)
        return (
            f'{self.path}: {self.facts.kind} graph for {takes}, {self.facts.weights} weights, '
            f'within {self.largest:.1e} of torch at {sizes}'
        )


def export_graph(
    part: Part,
    path: str | Path,
    *,
    outside: Mapping[str, Any] | None = None,
    settings: Mapping[str, Any] | None = None,
    size: int | Sequence[int] | None = None,
    int8: bool = False,
) -> Agreement:
    """Write a graph of a model's part, once onnxruntime says what torch says.

    Args:
        part: On the CPU, in float32, with the words that it looks for; see `graph_part`.
        path: The file to write; its name ends in ``.onnx``.
        outside: What of the model's configuration stays outside, plain values.
        settings: Of its system, plain values.
        size: A side or (H, W) in pixels, for a graph of that size alone; by default any size in
            whole patches, or where a model knows one view only, that.
        int8: Whether the weights of matrix products are rounded to 8 bits, each column to its own
            scale, and their inputs as they come. Such a graph differs from torch by what that does.

    Raises:
        ImportError: onnx, onnxscript or onnxruntime is not installed.
        ValueError: The model is in another format or cannot be traced, the size does not fit, or
            the graph says something else than torch.
    """
    path = Path(path)
    if path.suffix != SUFFIX:
        raise ValueError(f'{path}: expected a name that ends in {SUFFIX}')
    require_onnx(path)
    check_format(part.eval(), most=2 * MAX_BYTES if int8 else MAX_BYTES)
    size = size_for(part, size)
    count = TRACED[0] if part.batched else 1
    proto = traced(part, size, path, count=count)
    if count > 1 and proto.graph.input[0].type.tensor_type.shape.dim[0].HasField('dim_value'):
        count, proto = 1, traced(part, size, path, count=1)  # the model has made it a constant
    facts = GraphFacts(
        kind=part.kind,
        patch=part.patch,
        native=tuple(part.native),
        size=size,
        batched=count > 1,
        mean=part.statistics[0],
        std=part.statistics[1],
        channels=part.channels,
        words=part.classes,
        model=dict(outside or {}),
        settings=dict(settings or {}),
        own=part.own,
    )
    if int8:
        proto, facts = rounded(proto), replace(facts, weights='int8')
    describe_graph(proto, facts)
    if proto.ByteSize() > MAX_BYTES:
        raise ValueError(
            f'{path}: expected a graph of at most {MAX_BYTES} bytes, found {proto.ByteSize()}'
        )
    with TemporaryDirectory(prefix='mmseg_siglip-') as folder:
        draft = Path(folder, path.name)
        draft.write_bytes(proto.SerializeToString())
        found = compare_graph(part, Graph(draft), path, tight=not int8)
        write_atomically(draft.read_bytes(), path)
    return found


def check_format(part: Part, *, most: int = MAX_BYTES) -> None:
    """Refuse weights that no graph is written of.

    Raises:
        ValueError: They are on a GPU, of another format, or those of the vision layers alone take
            more than `most` bytes.
    """
    precision = getattr(part.model, 'precision', 'fp32')
    tensors = [*part.parameters()]
    formats = {value.dtype for value in tensors} - {torch.float32}
    encoder = getattr(part.model, 'backbone', None)
    layers = encoder.layers_of('vision') if isinstance(encoder, VisionLanguageBackbone) else part
    held = sum(value.nbytes for value in layers.parameters())
    if held > most:
        raise ValueError(f'expected weights of at most {most} bytes to export, found {held}')
    if any(value.device.type != 'cpu' for value in tensors):
        raise ValueError("expected a model on the CPU to export, by device='cpu'")
    if formats or compute_dtype(precision, torch.device('cpu')) != torch.float32:
        raise ValueError(
            f"expected a model of precision='fp32' to export, found {precision!r} and weights of "
            f'{", ".join(map(str, formats)) or "float32"}'
        )


def size_for(part: Part, size: int | Sequence[int] | None) -> tuple[int, int] | None:
    """The one size that a graph is for, if it is for one.

    Raises:
        ValueError: It holds no whole patches, or the model does not see such images.
    """
    if size is None:
        return part.fixed
    size = pair(size, 'size', least=part.patch)
    if max(size) > MOST_SIDE:
        raise ValueError(f'size: expected sides of at most {MOST_SIDE}, found {size_text(size)}')
    grid = patch_grid(size, part.patch, part.native)
    if any(n * part.patch > side for n, side in zip(grid, size, strict=True)):
        raise ValueError(
            f'size: expected whole patches of {part.patch} pixels, found {size_text(size)}'
        )
    seen = part.fixed or part.window
    if seen is not None and size != seen:
        raise ValueError(
            f'size: expected {size_text(seen)}, the views of this model, found {size_text(size)}'
        )
    return size


def traced(part: Part, size: tuple[int, int] | None, path: object, *, count: int) -> ModelProto:
    """The graph of a part, of any number of images, or of one if `count` is 1.

    Raises:
        ImportError: onnxscript is not installed.
        ValueError: torch cannot trace the model.
    """
    _, rows, columns = TRACED
    height, width = size or (rows * part.patch, columns * part.patch)
    images = torch.zeros(count, 3, height, width)
    dims: dict[int, Any] = {0: Dim('batch')} if count > 1 else {}
    if size is None:
        most = MOST_SIDE // part.patch
        dims |= {2: part.patch * Dim('h', max=most), 3: part.patch * Dim('w', max=most)}
    root = logging.getLogger()
    level = root.level
    try:
        with (
            warnings.catch_warnings(),
            redirect_stdout(StringIO()),
            redirect_stderr(StringIO()),
            torch.set_grad_enabled(part.learning),
        ):
            warnings.simplefilter('ignore')
            program = torch.onnx.export(
                part,
                (images,),
                dynamo=True,
                input_names=[IMAGES],
                output_names=list(part.outputs),
                dynamic_shapes=(dims,) if dims else None,
                external_data=False,
                optimize=False,
                verbose=False,
            )
    except ImportError:
        raise
    except Exception as error:
        cause = error.__cause__ or error
        reason = first_line(cause)
        hint = '' if size is not None else '; a graph of one size may be possible, see size'
        if TorchVersion(torch.__version__) < TRACES:
            hint = f'; a newer torch may, {TRACES} has, found {torch.__version__}'
        raise ValueError(f'{path}: torch cannot trace this model ({reason}){hint}') from error
    finally:
        root.setLevel(level)
    proto = program.model_proto
    if size is None:
        refuse_parts_of_patches(proto, part.patch)
    return proto


def refuse_parts_of_patches(proto: ModelProto, patch: int) -> None:
    """Have the graph itself refuse what are not whole patches, whoever runs it.

    A convolution by patches leaves out what remains. Here the image is laid out patch by patch and
    back again first, which changes no value, and which no runtime does where patches remain.
    """
    from onnx import helper

    for node in proto.graph.node:
        node.input[:] = [GUARDED if name == IMAGES else name for name in node.input]
    guard = [
        helper.make_node('SpaceToDepth', [IMAGES], [f'{GUARDED}_apart'], blocksize=patch),
        helper.make_node(
            'DepthToSpace', [f'{GUARDED}_apart'], [GUARDED], blocksize=patch, mode='DCR'
        ),
    ]
    nodes = [*guard, *proto.graph.node]
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)


def rounded(proto: ModelProto) -> ModelProto:
    """A graph with 8-bit matrix products, by onnxruntime."""
    import onnx
    import onnxruntime
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with TemporaryDirectory(prefix='mmseg_siglip-') as folder:
        draft, whole = Path(folder, 'draft.onnx'), Path(folder, 'whole.onnx')
        draft.write_bytes(proto.SerializeToString())
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        # Weights that stand behind a transposition become constants.
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(whole)
        onnxruntime.InferenceSession(str(draft), options, providers=['CPUExecutionProvider'])
        stacks = {one.name for one in onnx.load(whole).graph.initializer if len(one.dims) > 2}
        nodes = onnx.load(whole).graph.node
        root = logging.getLogger()
        level = root.level
        root.setLevel(logging.ERROR)  # its warnings are logged to the root
        try:
            quantize_dynamic(
                whole,
                draft,
                op_types_to_quantize=['MatMul', 'Gemm'],
                per_channel=True,
                nodes_to_exclude=[node.name for node in nodes if stacks & {*node.input}],
                weight_type=QuantType.QInt8,
            )
        finally:
            root.setLevel(level)
        return onnx.load(draft)


def describe_graph(proto: ModelProto, facts: GraphFacts) -> None:
    """Have a graph say what it is, and nothing of the machine that wrote it."""
    graph = proto.graph
    for holder in (
        proto,
        graph,
        *graph.node,
        *graph.input,
        *graph.output,
        *graph.initializer,
        *graph.value_info,
    ):
        holder.doc_string = ''
        del holder.metadata_props[:]
    graph.name = facts.kind
    entry = proto.metadata_props.add()
    entry.key, entry.value = KEY, facts.to_json()


def compare_graph(part: Part, graph: Graph, path: Path, *, tight: bool) -> Agreement:
    """A graph beside torch, on images of noise.

    Args:
        part: In torch.
        graph: The same, as it was written.
        path: Where it will lie.
        tight: Whether they shall be `CLOSE`.

    Raises:
        ValueError: They are not.
    """
    p, size = part.patch, graph.facts.size
    native = tuple(n * p for n in patch_grid(part.native, p, part.native))
    sizes = (size,) if size else (native, (3 * p, 5 * p), (native[0] + 2 * p, native[1] - p))
    sizes = tuple((max(height, p), max(width, p)) for height, width in sizes)
    largest, noise = 0.0, torch.Generator().manual_seed(0)
    for count, side in enumerate(sizes, start=1):
        images = torch.randn(count, 3, *side, generator=noise)
        with torch.no_grad():
            wanted = [torch.cat(found) for found in zip(*map(part, images.split(1)), strict=True)]
        for name, want in zip(part.outputs, wanted, strict=True):
            off = difference(graph(images, name), want)
            if not off <= CLOSE and (tight or not math.isfinite(off)):
                raise ValueError(
                    f'{path}: expected {name} of {size_text(side)} within {CLOSE} of '
                    f'torch, found {off:.1e}; nothing was written'
                )
            largest = max(largest, off)
    if graph.words is not None and not torch.equal(graph.words, part.get_buffer('words')):
        raise ValueError(f"{path}: expected the words' embeddings in the graph, found others")
    return Agreement(path, sizes, largest, graph.facts)


def difference(found: Tensor, wanted: Tensor) -> float:
    """The largest, in parts of the largest number wanted where that is above 1.

    Raises:
        ValueError: The shapes differ.
    """
    if found.shape != wanted.shape:
        raise ValueError(f'expected an output {tuple(wanted.shape)}, found {tuple(found.shape)}')
    return ((found - wanted).abs().max() / wanted.abs().max().clamp(min=1)).item()

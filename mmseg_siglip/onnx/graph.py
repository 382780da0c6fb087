"""An ONNX file that `mmseg-siglip export-onnx` wrote, looked through and run by onnxruntime.

Shapes: B images (3, H, W), patch side p, grid (h, w), Q words, D joint channels.
"""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from mmseg_siglip.io.regular_file import read_regular
from mmseg_siglip.models.backbones.vision_trunk import patch_grid
from mmseg_siglip.onnx.facts import KEY, GraphFacts, size_text
from mmseg_siglip.weights.foreign import first_line

if TYPE_CHECKING:
    from onnx import ModelProto

IMAGES, WORDS = 'images', 'words'
"""Names of the input, and of the constant with the words' embeddings."""
EXTRA = "pip install 'mmseg_siglip[onnx]'"


class Graph:
    """A graph, on the CPU, with as many threads as torch has.

    A file is data: nothing but operators of the standard's main domain is taken, no control flow,
    no functions, no data outside of the file; libraries of operators are never loaded.

    Args:
        path: The file, of at most 1 GiB.

    Attributes:
        facts: What it says of itself.
        words: (Q, D) float32, embeddings of its words, unit length; None without.
        digest: (32,) uint8, SHA-256 of the file, in the place of weights.

    Raises:
        ImportError: onnx or onnxruntime is not installed.
        ValueError: It is no ONNX file, not one of ours, or holds more than is taken.
        OSError: It cannot be read.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        runtime = require_onnx(path)
        if not self.path.is_file():
            raise ValueError(f'{path}: expected an ONNX file, found none there')
        try:
            data = read_regular(path)
        except ValueError as error:
            raise ValueError(f'{path} {error}') from error
        self.facts, self.words = _look_through(data, path)
        self.digest = torch.tensor([*sha256(data).digest()], dtype=torch.uint8)
        options = runtime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 4  # an error is raised, and needs no second line
        try:
            self._session = runtime.InferenceSession(
                data, options, providers=['CPUExecutionProvider']
            )
        except Exception as error:
            raise ValueError(
                f'{path}: onnxruntime cannot run this graph ({first_line(error)})'
            ) from error
        self._options = runtime.RunOptions()
        self._options.only_execute_path_to_fetches = True
        self.outputs = tuple(output.name for output in self._session.get_outputs())

    def __call__(self, images: Tensor, output: str | None = None) -> Tensor:
        """What the graph gives of images.

        Args:
            images: (B, 3, H, W) float32, normalised, see `check_size`.
            output: A name of `outputs`; the first if not given.

        Returns:
            (B, ...) float32, on the CPU.

        Raises:
            ValueError: They have another shape, or the graph cannot be run on them.
        """
        if images.dim() != 4 or images.shape[1] != 3:
            raise ValueError(f'images: expected (B, 3, H, W), found {tuple(images.shape)}')
        self.check_size(tuple(images.shape[-2:]))
        pixels = np.ascontiguousarray(images.detach().cpu().float().numpy())
        parts = [pixels] if self.facts.batched else np.split(pixels, len(pixels))
        return torch.cat([torch.from_numpy(self._run(part, output)) for part in parts])

    def check_size(self, size: tuple[int, int]) -> None:
        """Refuse images that the graph is not for.

        Raises:
            ValueError: A side holds no whole patches, or the size is not the one of the graph.
        """
        if self.facts.size is not None and size != self.facts.size:
            raise ValueError(
                f'{self.path}: expected images of {size_text(self.facts.size)}, for which '
                f'the graph was written, found {size_text(size)}'
            )
        patch = self.facts.patch
        if self.facts.size is None and (min(size) < patch or any(side % patch for side in size)):
            raise ValueError(
                f'{self.path}: expected sides in whole patches of {patch} pixels, found '
                f'{size_text(size)}'
            )

    def fit(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) of any size to the whole patches that torch would see: padded with zeros at
        the bottom and the right, or cut where the encoder leaves pixels out, see `patch_grid`."""
        size, patch = tuple(images.shape[-2:]), self.facts.patch
        if self.facts.size is not None:
            return images
        grid = patch_grid(size, patch, self.facts.native)
        down, right = (n * patch - side for n, side in zip(grid, size, strict=True))
        return pad(images, (0, right, 0, down))

    def _run(self, pixels: np.ndarray, output: str | None) -> np.ndarray:
        names = [output or self.outputs[0]]
        try:
            (found,) = self._session.run(names, {IMAGES: pixels}, self._options)
        except Exception as error:
            raise ValueError(
                f'{self.path}: onnxruntime cannot run this graph on '
                f'{size_text(pixels.shape[-2:])} ({first_line(error)})'
            ) from error
        self._check_output(found, names[0], pixels.shape)
        return found

    def _check_output(self, found: object, name: str, images: tuple[int, ...]) -> None:
        """Raises: ValueError: A graph gives something else than it says of itself."""
        facts, (count, _, *size) = self.facts, images
        grid = [side // facts.patch for side in size]
        wanted = {
            'dense': [count, facts.channels, *grid],
            'cat_seg': [count, facts.channels, None, None],
            'depth': [count, facts.channels, None, None],
            'tower': [count, None, facts.channels],
        }[facts.kind]
        if name == 'cosines':
            wanted[1] = len(facts.queries)
        shape = list(getattr(found, 'shape', ()))
        same = len(shape) == len(wanted) and all(
            want in (None, side) for want, side in zip(wanted, shape, strict=True)
        )
        if not same or found.dtype != np.float32:
            text = ', '.join('any' if side is None else str(side) for side in wanted)
            raise ValueError(
                f'{self.path}: expected float32 of ({text}) as {name}, found '
                f'{getattr(found, "dtype", type(found).__name__)} of {tuple(shape)}'
            )


def require_onnx(source: object) -> Any:
    """onnxruntime.

    Raises:
        ImportError: It or onnx is not installed; the sentence begins with `source`.
    """
    try:
        import onnx  # noqa: F401
        import onnxruntime
    except ImportError as error:
        raise ImportError(
            f'{source}: expected onnx and onnxruntime to be installed, found no {error.name}: '
            f'{EXTRA}'
        ) from error
    return onnxruntime


def _look_through(data: bytes, path: str | Path) -> tuple[GraphFacts, Tensor | None]:
    import onnx
    from onnx.numpy_helper import to_array

    try:
        model = onnx.load_model_from_string(data)
    except Exception as error:
        raise ValueError(f'{path}: expected an ONNX file, found no ONNX graph') from error
    check_graph(model, path)
    held = {entry.key: entry.value for entry in model.metadata_props}
    if KEY not in held:
        raise ValueError(
            f'{path}: expected a graph that `mmseg-siglip export-onnx` wrote, found one without '
            f'{KEY!r} in its metadata'
        )
    facts = GraphFacts.from_json(held[KEY], path)
    if facts.kind != 'dense':
        return facts, None
    table = [one for one in model.graph.initializer if one.name == WORDS]
    shape = [len(facts.queries), facts.channels]
    if len(table) != 1 or [*table[0].dims] != shape or table[0].data_type != onnx.TensorProto.FLOAT:
        raise ValueError(f'{path}: expected embeddings {shape} of its words, found others')
    try:
        words = torch.from_numpy(to_array(table[0]).copy())
    except Exception as error:
        raise ValueError(
            f'{path}: expected embeddings {shape} of its words, found others ({first_line(error)})'
        ) from error
    if not words.isfinite().all():
        raise ValueError(f'{path}: expected embeddings of finite numbers, found others')
    return facts, words


def check_graph(model: ModelProto, path: object) -> None:
    """Refuse what a graph of ours does not hold.

    Raises:
        ValueError: It has operators of another domain, control flow, functions, or data outside of
            the file.
    """
    from onnx import AttributeProto, TensorProto

    if model.functions:
        raise ValueError(f'{path}: expected a plain graph, found functions in it')
    tensors = [*model.graph.initializer]
    for sparse in model.graph.sparse_initializer:
        tensors += [sparse.values, sparse.indices]
    for node in model.graph.node:
        if node.domain not in ('', 'ai.onnx'):
            raise ValueError(
                f'{path}: expected operators of the ONNX standard, found {node.op_type} of '
                f'{node.domain!r}'
            )
        for attribute in node.attribute:
            if attribute.type in (AttributeProto.GRAPH, AttributeProto.GRAPHS):
                raise ValueError(f'{path}: expected no control flow, found {node.op_type}')
            tensors += [attribute.t, *attribute.tensors]
            for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
                tensors += [sparse.values, sparse.indices]
    if any(one.data_location == TensorProto.EXTERNAL or one.external_data for one in tensors):
        raise ValueError(f'{path}: expected all data inside of the file, found some elsewhere')

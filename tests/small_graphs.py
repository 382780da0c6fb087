"""ONNX files of a few operators, in the format that `mmseg-siglip export-onnx` writes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from mmseg_siglip.onnx.facts import KEY, GraphFacts

PATCH = 8
WORDS = np.eye(3, dtype=np.float32)
FACTS = {
    'dense': GraphFacts(
        kind='dense',
        patch=PATCH,
        native=(64, 64),
        size=None,
        batched=True,
        mean=(127.5,) * 3,
        std=(127.5,) * 3,
        channels=3,
        words=(('red',), ('green', 'lime')),
        settings=dict(short_side=None, background_index=None),
        own=dict(normalise=True, logit_scale=10.0, background=None),
    ),
    'cat_seg': GraphFacts(
        kind='cat_seg',
        patch=PATCH,
        native=(64, 64),
        size=(64, 64),
        batched=False,
        mean=(127.5,) * 3,
        std=(127.5,) * 3,
        channels=3,
        words=(('red',), ('green',), ('blue',)),
        settings=dict(short_side=None, background_index=None),
    ),
    'depth': GraphFacts(
        kind='depth',
        patch=PATCH,
        native=(64, 64),
        size=None,
        batched=True,
        mean=(0.0,) * 3,
        std=(255.0,) * 3,
        channels=1,
        own=dict(predicts='depth'),
    ),
}
OUTPUT = dict(dense='features', cat_seg='logits', depth='maps')


def small_graph(kind: str = 'dense', **changes) -> onnx.ModelProto:
    """Means of patches as features or logits, or of channels as depth."""
    facts = replace(FACTS[kind], **changes)
    if kind == 'depth':
        node = helper.make_node('ReduceMean', ['images', 'axis'], ['maps'], keepdims=1)
    else:
        node = helper.make_node(
            'AveragePool',
            ['images'],
            [OUTPUT[kind]],
            kernel_shape=[PATCH, PATCH],
            strides=[PATCH, PATCH],
        )
    held = []
    if kind == 'dense':
        held = [numpy_helper.from_array(WORDS[: len(facts.queries)], 'words')]
    if kind == 'depth':
        held = [numpy_helper.from_array(np.array([1]), 'axis')]
    sides = facts.size or ('height', 'width')
    graph = helper.make_graph(
        [node],
        kind,
        [helper.make_tensor_value_info('images', TensorProto.FLOAT, ['batch', 3, *sides])],
        [helper.make_tensor_value_info(OUTPUT[kind], TensorProto.FLOAT, None)],
        held,
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid('', 20)], ir_version=10, producer_name='test'
    )
    entry = model.metadata_props.add()
    entry.key, entry.value = KEY, facts.to_json()
    return model


def write_graph(path: Path, kind: str = 'dense', **changes) -> Path:
    path.write_bytes(small_graph(kind, **changes).SerializeToString())
    return path

"""ONNX graphs of the systems that ship along, in float32 and with 8-bit products, against torch.

    python benchmarks/onnx_graphs.py

Labels, scores and depths on held-out ShapesWorld scenes, with trained weights, from photograph to
result; then the vision tower of a SigLIP B/16 with random weights, the network alone. Times are
processor time, the best of several passes of each way in turn, torch in float32, on as many threads
everywhere; `of torch` is their ratio.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
import torch
from measure import measure, report, write_csv
from transformers import SiglipImageProcessor, SiglipVisionConfig, SiglipVisionModel

from mmseg_siglip.api import System
from mmseg_siglip.api.shipped import build_shipped
from mmseg_siglip.datasets.shapes_world.scene import ShapesScene, generate, scene_seed
from mmseg_siglip.onnx import Graph, export_graph
from mmseg_siglip.onnx.export import describe_graph, rounded
from mmseg_siglip.onnx.parts import graph_part
from mmseg_siglip.text.vocabulary import Vocabulary
from mmseg_siglip.vlm import SigLIPVisionTower

WAYS = ('onnxruntime', 'onnxruntime, int8')
TRUTH = dict(tiny_siglip_shapes=('shapes', 'classes'), shapes_cat_seg=('shapes_pairs', 'pairs'))
"""The vocabulary of a segmenter, and the label maps of a scene that it is of."""


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('parts', nargs='*', help=f'of {", ".join(PARTS)} [all]')
    parser.add_argument('--scenes', type=int, default=50, help='held-out scenes [%(default)s]')
    parser.add_argument('--repeat', type=int, default=5, help='passes of each way [%(default)s]')
    parser.add_argument('--out', type=Path, default=Path('work_dirs/benchmarks/onnx_graphs.csv'))
    args = parser.parse_args(argv)
    scenes = [generate(scene_seed('test', i), held_out=True) for i in range(args.scenes)]
    with TemporaryDirectory() as folder:
        for name in args.parts or PARTS:
            rows = PARTS[name](scenes, folder, args.repeat)
            report(rows)
            write_csv(rows, args.out.with_stem(f'{args.out.stem}_{name}'))


def systems(source: str, folder: str, prompt: Any = None) -> dict[str, System]:
    """A system that ships along, in torch and by its graphs."""
    system = build_shipped(source, device='cpu', precision='fp32')
    path = Path(folder, f'{source}.onnx')
    print(system.export_onnx(path, prompt), flush=True)
    paths = zip(WAYS, (path, eight_bit(path)), strict=True)
    return {'torch': system} | {way: System.from_pretrained(one) for way, one in paths}


def eight_bit(path: Path) -> Path:
    """A graph again, as ``export-onnx --int8`` writes it, without tracing the model again."""
    proto, place = rounded(onnx.load(path)), path.with_stem(f'{path.stem}_int8')
    describe_graph(proto, replace(Graph(path).facts, weights='int8'))
    place.write_bytes(proto.SerializeToString())
    return place


def in_turn(calls: Mapping[str, Callable[[], Any]], repeat: int) -> dict[str, dict[str, float]]:
    """What each costs, one after another, so that all meet the same machine."""
    seconds = {way: [] for way in calls}
    for _ in range(repeat + 1):
        for way, call in calls.items():
            seconds[way].append(measure(call).cpu)
    best = {way: min(times[1:]) for way, times in seconds.items()}
    return {
        way: {'cpu ms': 1000 * one, 'of torch': one / best['torch']} for way, one in best.items()
    }


def labelled(
    source: str, scenes: Sequence[ShapesScene], folder: str, repeat: int
) -> list[dict[str, Any]]:
    """A row for each way of a segmenter."""
    name, truth = TRUTH[source]
    words = Vocabulary.load(name)
    ways = systems(source, folder, words)
    image = scenes[0].image
    costs = in_turn({way: lambda one=one: one(image, words) for way, one in ways.items()}, repeat)
    wanted = np.stack([getattr(scene, truth) for scene in scenes])
    labels = {
        way: np.stack([one(scene.image, words).labels for scene in scenes])
        for way, one in ways.items()
    }
    return [
        {
            'system': source,
            'way': way,
            'labels as torch, %': 100 * float((found == labels['torch']).mean()),
            'mIoU': mean_iou(found, wanted, len(words)),
            **costs[way],
        }
        for way, found in labels.items()
    ]


def mean_iou(labels: np.ndarray, truth: np.ndarray, classes: int) -> float:
    """Over the classes that the truth has, percent."""
    pairs = truth.astype(np.int64).ravel() * classes + labels.ravel()
    counts = np.bincount(pairs, minlength=classes**2).reshape(classes, classes)
    there, hits = counts.sum(1) > 0, counts.diagonal()
    return 100 * float((hits / (counts.sum(0) + counts.sum(1) - hits))[there].mean())


def measured(scenes: Sequence[ShapesScene], folder: str, repeat: int) -> list[dict[str, Any]]:
    """A row for each way of a depth predictor."""
    ways = systems('shapes_depth', folder)
    costs = in_turn(
        {way: lambda one=one: one(scenes[0].image) for way, one in ways.items()}, repeat
    )
    truth = np.stack([scene.depth for scene in scenes])
    depths = {
        way: np.stack([one(scene.image).depth for scene in scenes]) for way, one in ways.items()
    }
    return [
        {
            'system': 'shapes_depth',
            'way': way,
            'largest difference, m': float(np.abs(found - depths['torch']).max()),
            'mean difference, m': float(np.abs(found - depths['torch']).mean()),
            'abs_rel': float((np.abs(found - truth) / truth).mean()),
            **costs[way],
        }
        for way, found in depths.items()
    ]


def encoded(scenes: object, folder: str, repeat: int) -> list[dict[str, Any]]:
    """A row for each way of a tower and each size."""
    torch.manual_seed(0)
    source = str(Path(folder, 'tower'))
    SiglipVisionModel(SiglipVisionConfig()).save_pretrained(source)
    SiglipImageProcessor().save_pretrained(source)
    tower = SigLIPVisionTower(source, precision='fp32')
    path = Path(folder, 'tower.onnx')
    print(export_graph(graph_part(tower), path), flush=True)
    paths = zip(WAYS, (path, eight_bit(path)), strict=True)
    ways = {'torch': tower} | {way: Graph(one) for way, one in paths}
    rows = []
    for size in ((224, 224), (448, 592)):
        images = torch.randn(1, 3, *size)
        with torch.inference_mode():
            costs = in_turn({way: partial(one, images) for way, one in ways.items()}, repeat)
            tokens = {way: one(images) for way, one in ways.items()}
        for way, found in tokens.items():
            off = (found - tokens['torch']).square().mean() / tokens['torch'].square().mean()
            row = dict(system='SigLIP B/16', pixels='x'.join(map(str, size)), way=way)
            rows.append(row | {'relative difference': off.sqrt().item()} | costs[way])
    return rows


PARTS = {
    'labels': lambda *given: labelled('tiny_siglip_shapes', *given),
    'cat_seg': lambda *given: labelled('shapes_cat_seg', *given),
    'depth': measured,
    'tower': encoded,
}


if __name__ == '__main__':
    main()

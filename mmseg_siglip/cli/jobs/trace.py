"""An image on its way through a model."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import init_default_scope
from torch import Tensor, nn

from mmseg_siglip.cli.jobs.config import load_config, require, require_data
from mmseg_siglip.models.decode_heads.cat_seg_aggregator import cost_volume
from mmseg_siglip.models.segmentors import CATSegSegmentor
from mmseg_siglip.registry import DATASETS, MODELS
from mmseg_siglip.text.templates import SLOT


class Trace:
    """The lines, in the order of the stages."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str, str]] = []

    def add(self, stage: str, value: Any, note: str = '') -> None:
        """A line for an array, a tensor, or several of them."""
        if isinstance(value, (list, tuple)) and value and isinstance(value[0], Tensor):
            for i, item in enumerate(value):
                self.add(f'{stage}[{i}]', item, note)
        elif isinstance(value, (Tensor, np.ndarray)):
            self.lines.append((stage, describe(value), note))
        else:
            self.lines.append((stage, str(value), note))

    def __str__(self) -> str:
        widths = [max(len(line[i]) for line in self.lines) for i in (0, 1)]
        return '\n'.join(
            f'{stage:<{widths[0]}}  {value:<{widths[1]}}  {note}'.rstrip()
            for stage, value, note in self.lines
        )


def describe(value: Tensor | np.ndarray) -> str:
    """``(3, 384, 384) float32 [-1, 1]``."""
    array = torch.as_tensor(np.ascontiguousarray(value) if isinstance(value, np.ndarray) else value)
    kind = str(array.dtype).removeprefix('torch.')
    if array.numel() == 0:
        return f'{tuple(array.shape)} {kind}'
    low, high = array.min().item(), array.max().item()
    return f'{tuple(array.shape)} {kind} [{low:.4g}, {high:.4g}]'


def load_sample(trace: Trace, loader: Config, index: int) -> dict:
    """Run the pipeline of a data set, a line for each transform.

    Raises:
        ValueError: there is no such sample.
    """
    dataset = DATASETS.build(loader.dataset)
    if not 0 <= index < len(dataset):
        raise ValueError(f'--index: expected 0 to {len(dataset) - 1}, found {index}.')
    results = dataset.get_data_info(index)
    trace.add('sample', results.get('img_path', ''))
    for transform in [None, *dataset.pipeline.transforms]:
        name = 'data set' if transform is None else type(transform).__name__
        results = results if transform is None else transform(results)
        if results is None:
            raise ValueError(f'{name} refused sample {index}; try another --index.')
        for key, what in (('img', 'image'), ('gt_seg_map', 'mask')):
            if key in results:
                trace.add(name, results[key], what)
    trace.add('PackSegInputs', results['inputs'], 'image, channels first')
    trace.add('PackSegInputs', results['data_samples'].gt_sem_seg.data, 'mask')
    return results


@contextmanager
def hooks(trace: Trace, head: nn.Module) -> Iterator[None]:
    """While open, what the parts of the head put out is written down."""
    stages = {'embedding of the costs': head.aggregator.embedding}
    for i, layer in enumerate(head.aggregator.layers, 1):
        stages[f'layer {i}, over space'] = layer.spatial
        stages[f'layer {i}, over classes'] = layer.classes
    if head.decoder is not None:
        for i in (1, 2):
            stages[f'guidance {i}, upsampled'] = getattr(head, f'upsample{i}')
            stages[f'decoder step {i}'] = head.decoder.steps[i - 1]
    seen: set[str] = set()

    def write(stage: str, output: Tensor) -> None:
        if stage not in seen:
            seen.add(stage)
            trace.add(
                stage, output, 'of the classes worked on at a time' if 'step' in stage else ''
            )

    handles = [
        module.register_forward_hook(lambda _, __, output, stage=stage: write(stage, output))
        for stage, module in stages.items()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def follow(trace: Trace, model: CATSegSegmentor, packed: dict) -> None:
    """From a packed sample to loss and labels."""
    data = model.data_preprocessor(pseudo_collate([packed]), training=True)
    images, samples = data['inputs'], data['data_samples']
    labels = torch.stack([sample.gt_sem_seg.data[0] for sample in samples])
    trace.add('preprocessed', images, 'normalised once, padded')
    trace.add('to the encoder', model.resize(images))
    tokens = model.backbone.tokens(model.resize(images))
    rows, columns = tokens.grid
    trace.add('tokens', tokens.x, f'{tokens.prefix} CLS + {rows} x {columns} patches')
    trace.add('grid', tokens.map, 'row by row')
    features, taps = model.extract_feat(images)
    for block, tap in zip(model.guidance_blocks, taps, strict=False):
        trace.add(f'tap after block {block}', tap)
    trace.add('dense features', features, 'in the image-text space')

    vocabulary, text = model.train_vocabulary, model.train_text
    first = model.templates[0].replace(SLOT, vocabulary.queries[0])
    trace.add('prompts', f'{len(vocabulary)} classes, {len(model.templates)} each', repr(first))
    trace.add('text features', text)
    trace.add('cost volume', cost_volume(features, text), 'cosines')
    with hooks(trace, model.decode_head):
        logits = model.decode_head(features, taps, text)
    trace.add('logits', logits, f'{model.decode_head.scale} times the grid')
    trace.add('mask', labels)
    if labels.lt(len(vocabulary)).logical_or(labels == 255).all():
        loss = model.decode_head.loss(logits, labels)['loss_sem_seg']
        trace.add('loss', f'{loss.item():.4f}', 'logits resized to the mask')

    (test,) = model.data_preprocessor(pseudo_collate([packed]))['inputs']
    (sample,) = model.predict([test], [samples[0]])
    trace.add('labels', sample.pred_sem_seg.data, f'at the original size, {model.test_cfg["mode"]}')


def trace(args: argparse.Namespace) -> None:
    cfg = load_config(args)
    require(cfg, 'model')
    if MODELS.get(cfg.model.type) is not CATSegSegmentor:
        raise ValueError(f'tools/trace.py follows a CATSegSegmentor, found {cfg.model.type}.')
    splits = (
        [args.split]
        if args.split
        else [s for s in ('train', 'val', 'test') if f'{s}_dataloader' in cfg]
    )
    if not splits or f'{splits[0]}_dataloader' not in cfg:
        raise ValueError(f'{Path(cfg.filename)} has no data to follow.')
    loader = cfg[f'{splits[0]}_dataloader']
    require_data(loader.dataset)
    init_default_scope(cfg.get('default_scope', 'mmseg_siglip'))
    lines = Trace()
    packed = load_sample(lines, loader, args.index)
    follow(lines, MODELS.build(cfg.model).eval(), packed)
    print(lines)

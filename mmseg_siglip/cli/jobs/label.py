"""Any system over any number of images."""

from __future__ import annotations

import argparse
import hashlib
from typing import Any

import torch
from torch import nn

from mmseg_siglip.api import SYSTEMS, System
from mmseg_siglip.api.load import read_config
from mmseg_siglip.cli.jobs.devices import device_of, share_cpus
from mmseg_siglip.cli.refer import phrases_of
from mmseg_siglip.cli.segment import build_segmenter, words_of_label
from mmseg_siglip.labelling.labeller import SystemLabeller
from mmseg_siglip.models.guides import all_weights
from mmseg_siglip.models.held_weights import hold_weights
from mmseg_siglip.precision import compute_name


def weights_digest(module: nn.Module) -> str:
    """Hexadecimal SHA-256 of names and values, second models' included."""
    digest = hashlib.sha256()
    for name, value in sorted(all_weights(module).items()):
        digest.update(f'{name} {tuple(value.shape)} {value.dtype}'.encode())
        digest.update(value.cpu().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def settings_of(args: argparse.Namespace, system: System, device: str) -> dict[str, Any]:
    """What must not change while a folder is filled, as plain values."""
    return dict(
        weights=weights_digest(system.model),
        config=args.config and read_config(args.config).pretty_text,
        precision=compute_name(args.precision, torch.device(device)),
    )


def segment_labeller(args: argparse.Namespace, device: str) -> SystemLabeller:
    vocabulary = words_of_label(args)
    segmenter = build_segmenter(args, device)
    segmenter.use(vocabulary, threshold=args.threshold)
    settings = settings_of(args, segmenter, device) | dict(
        words=[', '.join(words) for words in vocabulary.classes],
        classes=list(vocabulary.names),
        background=vocabulary.background_index,
        threshold=args.threshold,
        encoder=args.encoder,
        method=args.method,
        templates=args.templates,
        short_side=segmenter.short_side,
    )
    options = dict(threshold=args.threshold)
    return labeller(segmenter, vocabulary, settings, options=options)


def refer_labeller(args: argparse.Namespace, device: str) -> SystemLabeller:
    phrases, system = phrases_of(args.phrases), built('refer', args, device)
    return labeller(system, phrases, settings_of(args, system, device) | dict(classes=phrases))


def depth_labeller(args: argparse.Namespace, device: str) -> SystemLabeller:
    system = built('depth', args, device)
    settings = settings_of(args, system, device) | dict(depth_scale=args.depth_scale)
    return labeller(
        system, None, settings, row=lambda result: result.to_row(scale=args.depth_scale)
    )


def ask_labeller(args: argparse.Namespace, device: str) -> SystemLabeller:
    system = built('ask', args, device)
    settings = settings_of(args, system, device) | dict(question=args.question)
    return labeller(system, args.question, settings)


LABELLERS = {
    'segment': segment_labeller,
    'refer': refer_labeller,
    'depth': depth_labeller,
    'ask': ask_labeller,
}
"""Task to what makes its labeller on a device."""


def built(task: str, args: argparse.Namespace, device: str) -> System:
    """The system that ``--model`` or ``--config`` names."""
    common = dict(device=device, precision=args.precision)
    if args.model is not None:
        return SYSTEMS[task].from_pretrained(args.model, **common)
    return SYSTEMS[task].from_config(args.config, args.checkpoint, **common)


def labeller(system: System, prompt: Any, settings: dict[str, Any], **options) -> SystemLabeller:
    hold_weights(system.model)
    return SystemLabeller(system, prompt, settings=settings, **options)


def build_labeller(task: str, args: argparse.Namespace, number: int, count: int) -> SystemLabeller:
    """The `Recipe` of ``mmseg-siglip label``."""
    share_cpus(count)
    return LABELLERS[task](args, device_of(args, number))

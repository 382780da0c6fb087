"""Write the encoder of a trained model as a folder in the transformers format.

The folder loads with ``AutoModel``, ``AutoTokenizer`` and ``AutoImageProcessor``, and as
``pretrained`` of the encoder.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from mmseg_siglip.api.load import read_config
from mmseg_siglip.models.backbones.base import VisionLanguageBackbone
from mmseg_siglip.registry import MODELS
from mmseg_siglip.weights.checkpoint import load_checkpoint_file

PREFIX = 'backbone.'


def export_encoder(
    config: str | Path, checkpoint: str | Path, out: str | Path, *, dtype: str = 'float32'
) -> VisionLanguageBackbone:
    """Takes ``backbone.*`` out of a checkpoint.

    Args:
        config: The config that the model was trained with.
        checkpoint: An MMEngine ``.pth``.
        out: Folder to write.
        dtype: Number format of the written weights.

    Raises:
        ValueError: If the checkpoint has no encoder, or not all of it; or it is no model of
            transformers.
    """
    cfg = read_config(config).model.backbone
    backbone = MODELS.build(dict(cfg))
    loaded = load_checkpoint_file(str(checkpoint))
    weights = {
        name.removeprefix(PREFIX): value
        for name, value in loaded.get('state_dict', {}).items()
        if name.startswith(PREFIX)
    }
    report = backbone.load_state_dict(weights, strict=False)
    if report.missing_keys or report.unexpected_keys:
        raise ValueError(
            f'{checkpoint}: expected the weights of {cfg.type} under {PREFIX}, '
            f'{len(report.missing_keys)} are missing and {len(report.unexpected_keys)} unknown, '
            f'first {[*report.missing_keys, *report.unexpected_keys][0]}'
        )
    backbone.to(getattr(torch, dtype))
    backbone.save_pretrained(out)
    return backbone


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config')
    parser.add_argument('checkpoint')
    parser.add_argument('out')
    parser.add_argument('--dtype', default='float32', choices=['float32', 'float16', 'bfloat16'])
    args = parser.parse_args(argv)
    try:
        export_encoder(args.config, args.checkpoint, args.out, dtype=args.dtype)
    except ValueError as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    print(f'{args.out}: written')
    return 0


if __name__ == '__main__':
    sys.exit(main())

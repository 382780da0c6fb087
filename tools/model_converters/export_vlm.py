"""Write a trained LLaVA model as a folder in the transformers format.

The folder loads with ``mmseg_siglip.vlm.load_pretrained_model``, with ``python -m
mmseg_siglip.vlm``, and, less the depth fusion, with transformers' ``AutoModelForImageTextToText``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from mmengine.registry import init_default_scope

from mmseg_siglip.api.load import read_config
from mmseg_siglip.registry import MODELS, SCOPE
from mmseg_siglip.vlm import LlavaTrainer
from mmseg_siglip.weights.checkpoint import load_checkpoint_file
from mmseg_siglip.weights.state import load_strict


def export_vlm(config: str | Path, checkpoint: str | Path, out: str | Path) -> LlavaTrainer:
    """Build the model of a config, fill it from a checkpoint, write it.

    Args:
        config: The config that the model was trained with.
        checkpoint: An MMEngine ``.pth``.
        out: Folder to write.

    Raises:
        ValueError: The config is of another model, or the checkpoint does not fit it.
    """
    cfg = read_config(config)
    init_default_scope(SCOPE)
    model = MODELS.build(cfg.model)
    if not isinstance(model, LlavaTrainer):
        raise ValueError(f'{config}: expected a LlavaTrainer, found a {type(model).__name__}')
    load_strict(model, load_checkpoint_file(checkpoint).get('state_dict', {}), checkpoint)
    model.save_pretrained(out)
    return model


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config')
    parser.add_argument('checkpoint')
    parser.add_argument('out')
    args = parser.parse_args(argv)
    try:
        export_vlm(args.config, args.checkpoint, args.out)
    except (ValueError, OSError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    print(f'{args.out}: written')
    return 0


if __name__ == '__main__':
    sys.exit(main())

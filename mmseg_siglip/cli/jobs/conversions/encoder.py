"""The encoder of a trained model as a folder in the transformers format.

The folder loads with ``AutoModel``, ``AutoTokenizer`` and ``AutoImageProcessor``, and as
``pretrained`` of the encoder.
"""

from __future__ import annotations

from pathlib import Path

import torch

from mmseg_siglip.api.load import read_config
from mmseg_siglip.registry import MODELS
from mmseg_siglip.weights.checkpoint import load_checkpoint_file

PREFIX = 'backbone.'


def convert(
    config: str | Path, checkpoint: str | Path, out: str | Path, *, dtype: str = 'float32'
) -> str:
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
    return f'{out}: written'

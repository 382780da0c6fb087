"""A checkpoint of RSRefSeg's or RSRefSeg 2's code as one for a config of configs/refer_sam.

Written by https://github.com/KyanChen/RSRefSeg or /RSRefSeg2, such as the files of
``KyanChen/RSRefSeg2`` on the Hub: MMEngine's ``.pth``, the folder of that name that DeepSpeed
makes, or its ``mp_rank_00_model_states.pt``, or Lightning's ``.ckpt``; what it holds says which
of the two.
"""

from __future__ import annotations

from pathlib import Path

import torch
from mmengine.registry import DefaultScope

from mmseg_siglip.api.load import read_config
from mmseg_siglip.io.files import whole_file
from mmseg_siglip.models.adapters.rsrefseg import from_rsrefseg, trained_weights
from mmseg_siglip.models.adapters.rsrefseg2 import from_rsrefseg2, is_rsrefseg2
from mmseg_siglip.registry import MODELS, SCOPE
from mmseg_siglip.weights.checkpoint import load_checkpoint_file
from mmseg_siglip.weights.state import load_strict

STATES = 'mp_rank_00_model_states.pt'


def convert(checkpoint: str | Path, out: str | Path, config: str | Path | None = None) -> str:
    """Write the converted checkpoint.

    Raises:
        ValueError: The checkpoint is of another kind, or does not fit the config.
    """
    checkpoint = Path(checkpoint)
    if checkpoint.is_dir():
        checkpoint /= STATES
    state = trained_weights(load_checkpoint_file(checkpoint))
    try:
        converted = from_rsrefseg2(state) if is_rsrefseg2(state) else from_rsrefseg(state)
    except ValueError as error:
        raise ValueError(f'{checkpoint}: {error}') from error
    if config is not None:
        with DefaultScope.overwrite_default_scope(SCOPE):
            model = MODELS.build(read_config(config).model)
        load_strict(model, converted, checkpoint)
    with whole_file(out) as draft:
        torch.save(dict(state_dict=converted, meta=dict(source=checkpoint.name)), draft)
    return f'{len(converted)} tensors in {out}'

"""A trained LLaVA model as a folder in the transformers format.

The folder loads with ``mmseg_siglip.vlm.load_pretrained_model``, with ``python -m
mmseg_siglip.vlm``, and, less the depth fusion, with transformers' ``AutoModelForImageTextToText``.
"""

from __future__ import annotations

from pathlib import Path

from mmengine.registry import init_default_scope

from mmseg_siglip.api.load import read_config
from mmseg_siglip.models.learnt_with import require_learnt_with
from mmseg_siglip.registry import MODELS, SCOPE
from mmseg_siglip.vlm import LlavaTrainer
from mmseg_siglip.weights.checkpoint import load_checkpoint_file
from mmseg_siglip.weights.state import load_strict


def convert(config: str | Path, checkpoint: str | Path, out: str | Path) -> str:
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
    loaded = load_checkpoint_file(checkpoint)
    load_strict(model, loaded.get('state_dict', {}), checkpoint)
    require_learnt_with(model, loaded, checkpoint)
    model.save_pretrained(out)
    return f'{out}: written'

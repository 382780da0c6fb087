"""One name or path to the backbone that it belongs to."""

from __future__ import annotations

import json
from pathlib import Path

from huggingface_hub import hf_hub_download
from open_clip.constants import HF_CONFIG_NAME
from transformers import PretrainedConfig

from mmseg_siglip.models.backbones.base import VisionLanguageBackbone
from mmseg_siglip.models.backbones.clip_checkpoint import split_name
from mmseg_siglip.models.backbones.siglip import MODEL_TYPES, bundled
from mmseg_siglip.registry import MODELS
from mmseg_siglip.weights.state import read_state_dict, refuse_missing_path

CONFIG_NAME = 'config.json'
LOOKED_FOR = (
    f'{CONFIG_NAME} of transformers with model_type clip, siglip or siglip2, {HF_CONFIG_NAME} of '
    'open_clip, an OpenAI or open_clip state dict (visual.conv1.weight), or a transformers SigLIP '
    'state dict (vision_model.embeddings.patch_embedding.weight)'
)


def build_encoder(name_or_path: str, **options) -> VisionLanguageBackbone:
    """Build the backbone of a checkpoint, its kind found from what the checkpoint holds.

    Args:
        name_or_path: A file, a folder, a Hub id, ``NAME:TAG`` of open_clip, an OpenAI name, or
            the name of a checkpoint that ships with this package.
        options: Passed to the backbone.

    Raises:
        ValueError: Nothing known is there; the message lists what was looked for.
    """
    kind = find_encoder_type(name_or_path)
    return MODELS.build(dict(type=kind, pretrained=name_or_path, **options))


def find_encoder_type(name_or_path: str) -> str:
    """``CLIPBackbone`` or ``SigLIPBackbone``, by contents; see `build_encoder`."""
    source = bundled(name_or_path)
    path = Path(source)
    if path.is_dir():
        return _type_of_folder(path)
    if path.is_file():
        return _type_of_file(path)
    if split_name(source)[1]:
        return 'CLIPBackbone'
    refuse_missing_path(source)
    return _type_on_hub(source.removeprefix('hf-hub:'))


def _type_of_folder(folder: Path) -> str:
    if (folder / HF_CONFIG_NAME).is_file():
        return 'CLIPBackbone'
    if (folder / CONFIG_NAME).is_file():
        config = json.loads((folder / CONFIG_NAME).read_text(encoding='utf-8'))
        return _type_of_model(config.get('model_type'), folder)
    raise ValueError(f'{folder}: no encoder found; looked for {LOOKED_FOR}')


def _type_of_file(path: Path) -> str:
    state = read_state_dict(path)
    if any(name.endswith('visual.conv1.weight') for name in state):
        return 'CLIPBackbone'
    if any(name.endswith('vision_model.embeddings.patch_embedding.weight') for name in state):
        return 'SigLIPBackbone'
    raise ValueError(
        f'{path}: no encoder found among its {len(state)} tensors '
        f'(first {next(iter(state))}); looked for {LOOKED_FOR}'
    )


def _type_on_hub(repository: str) -> str:
    try:
        config, _ = PretrainedConfig.get_config_dict(repository)
    except (OSError, ValueError):
        config = {}
    if config.get('model_type'):
        return _type_of_model(config['model_type'], repository)
    try:
        hf_hub_download(repository, HF_CONFIG_NAME)
    except (OSError, ValueError) as error:
        raise ValueError(
            f'{repository}: no such file or folder, and no model of that name can be reached on '
            f'the Hub; looked for {LOOKED_FOR}'
        ) from error
    return 'CLIPBackbone'


def _type_of_model(model_type: str | None, where: str | Path) -> str:
    if model_type == 'clip':
        return 'CLIPBackbone'
    if model_type in MODEL_TYPES:
        return 'SigLIPBackbone'
    raise ValueError(f'{where}: found model_type {model_type!r}; looked for {LOOKED_FOR}')

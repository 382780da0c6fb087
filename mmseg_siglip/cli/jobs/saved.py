"""Saved systems in the place of checkpoints: the model is theirs, data and metrics the config's."""

from __future__ import annotations

import re
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from mmengine.config import Config
from torch import nn

from mmseg_siglip.api.ask import VisionChat
from mmseg_siglip.api.system_folder import SystemFolder
from mmseg_siglip.models.learnt_with import flat
from mmseg_siglip.models.segmentors import OpenVocabularySegmentor
from mmseg_siglip.registry import MODELS
from mmseg_siglip.vlm.assemble import PretrainedVLM
from mmseg_siglip.vlm.llava import feature_layers
from mmseg_siglip.vlm.trainer import LlavaTrainer
from mmseg_siglip.weights.source import bundled

FIELD = 'saved_system'
"""Of a config: the folder or Hub id of which `load_weights` takes the weights."""
OF_DATA = 'background_index', 'prob_thd', 'area_thd'
"""What a data set has beside its words."""
OF_FILES = ('_name_or_path', 'architectures', 'dtype', 'transformers_version')
"""Of a configuration of transformers: what says where and how it was saved."""
HUB_ID = re.compile(r'[\w.-]+/[\w.-]+(?<!\.pth|\.bin)(?<!\.pt)(?<!\.ckpt)(?<!\.safetensors)')


def place_saved(cfg: Config, source: str) -> bool:
    """Put a saved system into a config, if `source` names one.

    Args:
        cfg: Its model becomes the saved one, but for words, background and thresholds, which are
            those of the data. Of a `LlavaTrainer` it stays, as it says how images and questions are
            put to the saved LLaVA, which must have the same parts and settings.
        source: A folder, the name of what ships along, or, of trained models, a Hub id.

    Returns:
        Whether it does.

    Raises:
        ValueError: It is damaged, or holds another kind of model than the config's.
    """
    kind, path = MODELS.get(cfg.model.type), Path(bundled(source)).expanduser()
    if path.is_dir():
        source = str(path)
    elif getattr(kind, 'training_free', False) or not is_hub_id(source):
        return False
    if kind is LlavaTrainer:
        cfg[FIELD] = source
        return True
    saved = SystemFolder.find(source)
    if saved is None:
        return False
    if saved.kind is not kind:
        raise ValueError(
            f'{source}: expected a {cfg.model.type}, which {cfg.filename} is about, found a '
            f'{saved.kind.__name__}'
        )
    given, cfg.model = cfg.model, saved.description
    if issubclass(kind, OpenVocabularySegmentor):
        cfg.model[kind.words_option] = given.get(kind.words_option) or given.vocabulary
        for name in OF_DATA:
            cfg.model.pop(name, None)
            if name in given:
                cfg.model[name] = given[name]
    cfg[FIELD] = str(saved.folder)
    return True


def is_hub_id(name: str) -> bool:
    """Whether a name that is no path can be ``owner/model`` of the Hub."""
    return bool(HUB_ID.fullmatch(name)) and not Path(name).parent.exists()


def room(source: str) -> AbstractContextManager:
    """While a model is built by a config with the name of a saved system: no more weights than its
    files can fill."""
    saved = SystemFolder.find(source)
    return nullcontext() if saved is None else saved.room()


def load_weights(model: nn.Module, source: str) -> None:
    """Put the weights of a saved system into a model that was built by a config with its name.

    Raises:
        ValueError: They do not fit.
    """
    if not isinstance(model, LlavaTrainer):
        SystemFolder.find(source).load_into(model)
        return
    saved = VisionChat.from_pretrained(source, device='cpu', precision='fp32').vlm
    found, own = saved.model.state_dict(), model.llava.state_dict()
    unfit = [name for name in own.keys() | found.keys() if _shape(own, name) != _shape(found, name)]
    if unfit:
        name = min(unfit)
        raise ValueError(
            f'{source}: expected the LLaVA of the config, with {name} of '
            f'{_shape(own, name)}, found {_shape(found, name)}'
        )
    wanted, given = _settings(model.vlm), _settings(saved)
    for name in sorted(wanted.keys() | given.keys()):
        if wanted.get(name) != given.get(name):
            raise ValueError(
                f'{source}: expected the LLaVA of the config, with {name} '
                f'{wanted.get(name)!r:.80}, found {given.get(name)!r:.80}'
            )
    model.llava.load_state_dict(found)


def _shape(state: dict, name: str) -> tuple[int, ...] | None:
    return tuple(state[name].shape) if name in state else None


def _settings(vlm: PretrainedVLM) -> dict[str, Any]:
    """What a LLaVA's answers depend on beside its weights, by names with dots."""
    config = vlm.model.config
    found = flat('', config.to_dict()) | flat('image_processor', vlm.image_processor.to_dict())
    return dict(
        {name: value for name, value in found.items() if name.split('.')[-1] not in OF_FILES},
        vision_feature_layer=feature_layers(config),
        chat_template=vlm.processor.chat_template,
        tokenizer=vlm.tokenizer.get_vocab(),
    )

"""Models of transformers, every weight accounted for."""

from __future__ import annotations

import logging
import re
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.utils import are_progress_bars_disabled
from torch import Tensor, nn
from transformers import MODEL_MAPPING, AutoConfig, AutoModel, PretrainedConfig, PreTrainedModel
from transformers.utils import logging as transformers_logging

from mmseg_siglip.weights.checkpoint import check_weights_file, load_checkpoint_file
from mmseg_siglip.weights.claims import check_size, size_of
from mmseg_siglip.weights.finite import refuse_not_finite
from mmseg_siglip.weights.foreign import as_data
from mmseg_siglip.weights.json_file import check_folder, check_model_fields
from mmseg_siglip.weights.shards import weight_files
from mmseg_siglip.weights.state import refuse_images, refuse_missing_path

ADAPTERS = 'adapter_config.json'
NO_CONFIG = 'no configuration of a model that transformers can build'

DEFAULT_TOKENS = re.compile(r'Model config: [be]os_token_id must be .* got 4940[67]\.')
"""What transformers warns of whenever it compares a SigLIP's configuration with the defaults of its
own class, which name tokens of CLIP's beyond its vocabulary; SigLIP reads neither."""

logging.getLogger('transformers.configuration_utils').addFilter(
    lambda record: not DEFAULT_TOKENS.match(record.getMessage())
)


@contextmanager
def without_bar() -> Iterator[None]:
    """While open, transformers shows no bar for weights, which are read in moments."""
    shown = transformers_logging.is_progress_bar_enabled() and not are_progress_bars_disabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()


def load_model(
    source: str,
    config: PretrainedConfig,
    *,
    kind: type = AutoModel,
    state: Mapping[str, Tensor] | None = None,
    revision: str | None = None,
    attention: str | None = None,
    **parts: Any,
) -> nn.Module:
    """A transformers model with every weight of the checkpoint, in float32.

    Args:
        source: Folder or Hub id; with `state`, what messages call it.
        config: Of the model.
        kind: The class whose ``from_pretrained`` loads it; `AutoModel`, or with `state` a class of
            models.
        state: The weights of a bare file, by the model's names or those that it is published under.
        revision: Commit of a Hub id.
        attention: transformers' name of an attention implementation; its choice by default.
        parts: For the model's constructor, such as ``add_pooling_layer``.

    Raises:
        ValueError: The checkpoint is of another kind, lacks weights or has some that are not
            finite, or `state` has too many.
    """
    if state is None:
        refuse_missing_path(source)
        held = _check_files(source, revision)
        load, options = kind.from_pretrained, dict(pretrained_model_name_or_path=source)
    else:
        load = (MODEL_MAPPING[type(config)] if kind is AutoModel else kind).from_pretrained
        held = size_of(state)
        # Copies, as transformers would make these very tensors the model's parameters.
        state = {name: value.clone() for name, value in state.items()}
        options = dict(pretrained_model_name_or_path=None, state_dict=state)
    if held:
        check_model_size(config, held, source, kind=kind, **parts)
    with as_data(source, 'weights do not load'), without_bar():
        model, report = load(
            config=config,
            revision=revision,
            dtype=torch.float32,
            attn_implementation=attention,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            trust_remote_code=False,
            **options,
            **parts,
        )
    for name, found, expected in sorted(report['mismatched_keys']):
        raise ValueError(
            f'{source}: expected shape {tuple(expected)} for {name}, found {tuple(found)}'
        )
    for found, keys in (('missing', 'missing_keys'), ('unknown', 'unexpected_keys')):
        names = sorted(report[keys])
        if names and (found == 'missing' or state is not None):
            raise ValueError(
                f'{source}: expected all weights of a {config.model_type} model, '
                f'{len(names)} are {found}, first {names[0]}'
            )
    refuse_not_finite(model.state_dict(), source)
    return model


def _check_files(source: str, revision: str | None) -> int:
    """Bytes of a folder's or Hub id's weights, 0 where transformers will find none.

    Raises:
        ValueError: A file is damaged, or it holds adapters of other weights.
    """
    if Path(source).is_dir():
        check_folder(source)
        if Path(source, ADAPTERS).is_file():
            raise ValueError(
                f'{source}: expected whole weights, found adapters ({ADAPTERS}); merge them first'
            )
    files = weight_files(source, revision=revision)
    for file in files:
        if zipfile.is_zipfile(file):
            check_weights_file(file)
        elif file.suffix == '.bin':  # the format before torch 1.6: read it to say what is wrong
            load_checkpoint_file(file)
    return sum(file.stat().st_size for file in files)


def check_model_size(
    config: PretrainedConfig, held: int, source: object, *, kind: type = AutoModel, **parts: Any
) -> None:
    """Refuse a configuration of more weights than `held` bytes, see `check_size`."""
    build = partial(build_model, deepcopy(config), source, kind=kind, **parts)
    check_size(build, held, source)


def build_model(
    config: PretrainedConfig,
    source: object = 'config',
    *,
    kind: type = AutoModel,
    attention: str | None = None,
    **parts: Any,
) -> nn.Module:
    """A model with random weights, in float32.

    Args:
        config: Of the model.
        source: Where that comes from, for messages.
        kind: An ``Auto`` class of transformers', or that of a model.
        attention: See `load_model`.
        parts: See `load_model`.

    Raises:
        ValueError: There is no such model.
    """
    with as_data(source, NO_CONFIG):
        if hasattr(kind, 'from_config'):
            options = dict(dtype=torch.float32, attn_implementation=attention, **parts)
            return kind.from_config(config, trust_remote_code=False, **options)
        return kind(config)


def config_of(fields: Mapping, source: object = 'config') -> PretrainedConfig:
    """A configuration by its fields, of which ``model_type`` says the kind.

    Raises:
        ValueError: transformers has no such kind, or a field's value does not fit it.
    """
    fields = check_model_fields(dict(fields), source)
    with as_data(source, NO_CONFIG):
        return AutoConfig.for_model(fields.pop('model_type', None), **fields)


def load_model_config(
    source: str, missing: str = NO_CONFIG, *, revision: str | None = None
) -> PretrainedConfig:
    """The configuration of a folder or Hub id.

    Raises:
        ValueError: There is none, or it needs code of its own.
    """
    refuse_missing_path(source)
    if Path(source).is_dir():
        refuse_images(Path(source))
        check_folder(source)
    with as_data(source, missing):
        fields = PretrainedConfig.get_config_dict(source, revision=revision)[0]
    check_model_fields(fields, source)
    with as_data(source, missing):
        return AutoConfig.from_pretrained(source, revision=revision, trust_remote_code=False)


def save_model(model: PreTrainedModel, folder: str | Path, **options: Any) -> None:
    """``model.save_pretrained``; whoever may read ``config.json`` may read the weights, too.

    Since 0.8 safetensors writes for a file's owner alone.
    """
    model.save_pretrained(folder, **options)
    mode = Path(folder, 'config.json').stat().st_mode
    for weights in Path(folder).glob('*.safetensors'):
        weights.chmod(mode)


def load_part(kind: type, source: str, missing: str, **options: Any) -> Any:
    """What prepares a model's inputs: a tokenizer, a processor.

    Args:
        kind: The class whose ``from_pretrained`` loads it, without code of the checkpoint's.
        source: Folder or Hub id.
        missing: What messages say where there is none.
        options: For ``from_pretrained``.

    Raises:
        ValueError: None loads.
    """
    refuse_missing_path(source)
    if Path(source).is_dir():
        check_folder(source)
    with as_data(source, missing):
        return kind.from_pretrained(source, trust_remote_code=False, **options)

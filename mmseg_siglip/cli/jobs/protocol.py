"""By which settings methods are compared: each by its paper's, or all by the same ones.

A method's module may say ``PUBLISHED``, a mapping of data sets (files of configs/sclip) to the
settings that its paper has for them:

    short_side    of an image, pixels
    crop_size     side of a window, pixels; None for the image in one piece
    stride        from window to window, pixels
    logit_scale, prob_thd, area_thd    see `SCLIPSegmentor`
    method        arguments of the method

and whatever else `SCLIPSegmentor` takes. ``COARSE_THD``, by data set, is for `SAMRefine` behind the
method. What is left out is as in the config. ``PUBLISHED_MIOU``
are the paper's figures for these settings on the words of the config, on OpenAI's CLIP ViT-B/16 or
what ``PUBLISHED_ENCODER`` says, a pair of names of open_clip; ``SOURCE`` is where they stand.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmseg_siglip.api.load import read_config
from mmseg_siglip.cli.common import config_folder
from mmseg_siglip.models.backbones.trunk import build_method, method_names
from mmseg_siglip.models.segmentors import SCLIPSegmentor
from mmseg_siglip.registry import DENSE_METHODS, MODELS
from mmseg_siglip.text.vocabulary import Vocabulary

Fields = dict[str, Any]

COMMON = dict(
    short_side=336,
    crop_size=224,
    stride=112,
    logit_scale=None,
    prob_thd=0.0,
    area_thd=None,
)
"""One protocol for all; no threshold and no scale is tuned on a data set."""

NONE_PUBLISHED = 'own (none published)'
CONFIGS_ARE_OF = 'csa'
TWIN = '_siglip2'
SCLIP_WORDS = '_sclip'
GEOMETRY = ('short_side', 'crop_size', 'stride')
CALIBRATION = ('logit_scale', 'prob_thd', 'area_thd')  # of CLIP's cosines
FIXED = ('vocabulary', 'data_preprocessor')
SHARED = (*FIXED, 'background_index', 'backbone', 'precision')  # with another kind of segmentor


def method_label(name: str) -> str:
    """What a row says: the method's name, or that of its file."""
    return Path(name).stem if name.endswith('.py') else name


def method_file(name: str) -> Path | None:
    """The file of settings that a method is, if it is one: given by its path, or of
    configs/_base_/methods.

    Raises:
        ValueError: There is no such file.
    """
    if name in method_names():
        return None
    path = Path(name).expanduser()
    if path.suffix != '.py':
        path = config_folder() / '_base_/methods' / f'{name}.py'
        return path if path.is_file() else None
    if not path.is_file():
        raise ValueError(f'--methods: there is no file {path}')
    return path


def method_fields(name: str) -> Fields:
    """What a method sets in a segmentor: by its name, or by a config of such settings.

    A config may say ``type``, too: another segmentor, which takes ``vocabulary``, with a
    ``backbone`` of its own; and ``short_side``, None for images as they are. `SCLIPSegmentor`'s
    settings do not concern it. Its ``prob_thd`` is for data sets with a background.

    Raises:
        ValueError: There is no such method or file, or the file sets what is not to be set.
    """
    path = method_file(name)
    if path is None:
        if name not in method_names():
            build_method(name)  # says so
        return dict(attention=name)
    fields = read_config(path).to_dict()
    kind = MODELS.get(fields.get('type', SCLIPSegmentor.__name__))
    if kind is None:
        raise ValueError(f'{path}: there is no model type {fields["type"]}')
    fixed = {*FIXED, *(('backbone',) if kind is SCLIPSegmentor else ())}
    known = set(inspect.signature(kind).parameters) - fixed | {'short_side'}
    unknown = sorted(set(fields) - known - {'type'})
    if unknown:
        raise ValueError(
            f'{path}: unknown {", ".join(unknown)}; expected settings of {kind.__name__}: '
            f'{", ".join(sorted(known))}'
        )
    return fields


def set_fields(cfg: Config, fields: Mapping[str, Any]) -> None:
    """Put them into the model of a config; of ``test_cfg`` only what is given."""
    fields = dict(fields)
    if 'short_side' in fields:
        set_geometry(cfg, dict(short_side=fields.pop('short_side')))
    if 'type' in fields:
        kind = MODELS.get(fields['type'])
        known = set(inspect.signature(kind).parameters)
        if not issubclass(kind, SCLIPSegmentor):
            known &= set(SHARED)
        cfg.model = {key: value for key, value in cfg.model.items() if key in known}
        if not has_background(cfg.model):
            fields.pop('prob_thd', None)
    for key, value in fields.items():
        if key == 'test_cfg':
            cfg.model.setdefault(key, {}).update(value)
        else:
            cfg.model[key] = value


def has_background(model: Mapping[str, Any]) -> bool:
    """Whether one of a model's classes is the background."""
    if model.get('background_index') is not None:
        return True
    return Vocabulary.load(model['vocabulary']).background_index is not None


def method_data(name: str, what: str, default: Any) -> Any:
    """What the module of a method says, such as ``PUBLISHED``."""
    kind = DENSE_METHODS.get(name)
    return default if kind is None else getattr(sys.modules[kind.__module__], what, default)


def dataset_name(cfg: Config) -> str:
    """That of its file, of CLIP's and SigLIP's the same."""
    return Path(cfg.filename).stem.removesuffix(TWIN)


def set_geometry(cfg: Config, geometry: Mapping[str, int | None]) -> None:
    """Sizes of images and windows, where a data set brings images to a size at all; synthetic ones
    have their own."""
    resize = [t for t in cfg.test_dataloader.dataset.get('pipeline', ()) if t.type == 'Resize']
    if not resize:
        return
    if 'short_side' in geometry:
        side, pipeline = geometry['short_side'], cfg.test_dataloader.dataset.pipeline
        if side is None:
            cfg.test_dataloader.dataset.pipeline = [t for t in pipeline if t.type != 'Resize']
        else:
            resize[0].scale = (2048, side)
    crop = geometry.get('crop_size', 0)
    if crop is None:
        cfg.model.test_cfg = dict(cfg.model.get('test_cfg', {}), mode='whole')
    elif crop:
        stride = geometry['stride']
        windows = dict(mode='slide', crop_size=(crop, crop), stride=(stride, stride))
        cfg.model.test_cfg = dict(cfg.model.get('test_cfg', {}), **windows)


def apply_own(cfg: Config, name: str) -> Fields:
    """A method's published settings for the data set of a config; the config's own where it has
    none, and for thresholds and scales on an encoder of another kind.

    Args:
        cfg: Changed in place.
        name: Of the method, or of a file, whose method's settings are taken and whose own win.

    Returns:
        What the method sets in the model.
    """
    fields = method_fields(name)
    attention = fields.get('attention')
    if attention is None:
        return fields
    own = dict(type=attention) if isinstance(attention, str) else dict(attention)
    given = dict(method_data(own['type'], 'PUBLISHED', {}).get(dataset_name(cfg), {}))
    set_geometry(cfg, {key: given[key] for key in GEOMETRY if key in given})
    if given.get('method'):
        fields['attention'] = dict(given['method'], **own)
    coarse_thd = method_data(own['type'], 'COARSE_THD', {}).get(dataset_name(cfg))
    if coarse_thd is not None and 'label_steps' in fields:
        fields['label_steps'] = [
            dict(coarse_thd=coarse_thd, **step) if step['type'] == 'SAMRefine' else step
            for step in fields['label_steps']
        ]
    left_out = (*GEOMETRY, 'method', *(() if on_clip(cfg) else CALIBRATION))
    return {key: value for key, value in given.items() if key not in left_out} | fields


def protocol_label(cfg: Config, name: str, protocol: str | None) -> str:
    """What a row's column ``protocol`` says."""
    if protocol != 'own':
        return protocol or 'config'
    attention = method_fields(name).get('attention')
    kind = attention if isinstance(attention, str) else (attention or {}).get('type', '')
    known = kind == CONFIGS_ARE_OF or dataset_name(cfg) in method_data(kind, 'PUBLISHED', {})
    return 'own' if known else NONE_PUBLISHED


def on_clip(cfg: Config) -> bool:
    """Whether a config is for CLIP; a twin is for SigLIP."""
    return not Path(cfg.filename).stem.endswith(TWIN)


def apply_common(cfg: Config, name: str) -> Fields:
    """`COMMON`, with the corrected words of the data set; see `apply_own`."""
    set_geometry(cfg, COMMON)
    cfg.model.update({key: COMMON[key] for key in CALIBRATION})
    words = cfg.model.vocabulary
    if isinstance(words, str):
        cfg.model.vocabulary = words.removesuffix(SCLIP_WORDS)
    cfg.model.pop('background_index', None)
    return method_fields(name)


PROTOCOLS = dict(own=apply_own, common=apply_common)

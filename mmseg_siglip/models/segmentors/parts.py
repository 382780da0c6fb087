"""What segmentors of every kind are made of."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from math import inf

from mmengine.structures import BaseDataElement
from mmseg.structures import SegDataSample
from torch import Tensor, nn

from mmseg_siglip.misspelt import did_you_mean
from mmseg_siglip.models.backbones.base import VisionLanguageBackbone
from mmseg_siglip.models.backbones.build import build_encoder
from mmseg_siglip.models.backbones.trunk import Method, method_name
from mmseg_siglip.models.finite import Doubt, doubts
from mmseg_siglip.precision import PRECISIONS
from mmseg_siglip.registry import MODELS
from mmseg_siglip.text.vocabulary import Vocabulary


def build_backbone(config: Mapping, **defaults) -> VisionLanguageBackbone:
    """A backbone of the kind that `config` names, or that its checkpoint holds. Random weights of
    a transformers `config` alone are a `SigLIPBackbone`'s.

    Raises:
        ValueError: It names neither kind nor checkpoint.
    """
    config = {**defaults, **config}
    if not config.get('pretrained') and config.get('config'):
        config.setdefault('type', 'SigLIPBackbone')
    if 'type' in config:
        return MODELS.build(config)
    if not config.get('pretrained'):
        raise ValueError('backbone: expected type or pretrained, found neither')
    return build_encoder(config.pop('pretrained'), **config)


def build_preprocessor(config: Mapping | None, backbone: VisionLanguageBackbone) -> nn.Module:
    """A data preprocessor with the pixel statistics of the backbone.

    Raises:
        ValueError: `config` brings statistics of its own that differ.
    """
    config = dict(config or dict(type='ImageListPreProcessor', bgr_to_rgb=True))
    for name in ('mean', 'std'):
        own, given = getattr(backbone, name), config.get(name)
        if given is not None and any(abs(a - b) > 0.01 for a, b in zip(own, given, strict=True)):
            raise ValueError(
                f'data_preprocessor.{name}: expected {own} as in the checkpoint, found {given}'
            )
        config[name] = list(own)
    return MODELS.build(config)


def build_all(configs: Mapping | Sequence[Mapping]) -> nn.ModuleList:
    """Modules of one or several configurations."""
    configs = [configs] if isinstance(configs, Mapping) else configs
    return nn.ModuleList(MODELS.build(config) for config in configs)


def check_fit(
    method: Method, score_steps: Sequence[nn.Module], upsampler: nn.Module | None
) -> None:
    """Refuse what needs more than a dense method gives.

    Raises:
        ValueError: The method gives no features, or one map for an image where a score step asks
            for windows.
    """
    parts = [*score_steps, upsampler] if upsampler is not None else [*score_steps]
    expected = None
    if method.gives == 'cosines':
        expected = 'gives scores without features: expected neither score_steps nor upsampler'
    elif method.whole:
        parts = [step for step in score_steps if getattr(step, 'sees_windows', True)]
        expected = 'gives one map for an image: expected no score_steps that ask for windows'
    if parts and expected:
        found = ', '.join(type(part).__name__ for part in parts)
        raise ValueError(
            f'{method_name(method)!r} {expected}, found {found}; use a postprocessor or another '
            'method'
        )


def background_of(
    vocabulary: Vocabulary, index: int | None, *, thresholds: Mapping[str, float | None]
) -> int | None:
    """The class that doubtful pixels go to: `index`, or else the one that the vocabulary marks.

    Args:
        vocabulary: What is looked for.
        index: What a user gave.
        thresholds: What decides that a pixel is doubtful, by the names of options.

    Raises:
        ValueError: There is no such class, or none where a threshold needs one.
    """
    if index is None:
        index = vocabulary.background_index
    elif not 0 <= index < len(vocabulary):
        raise ValueError(f'background_index: expected 0 to {len(vocabulary) - 1}, found {index}')
    if index is None and any(thresholds.values()):
        verb = 'needs' if len(thresholds) == 1 else 'need'
        raise ValueError(
            f'{" and ".join(thresholds)} {verb} a background: mark a class in the vocabulary, '
            'or set background_index'
        )
    return index


def check_scale(logit_scale: float | None) -> float | None:
    """`logit_scale`, if it is none or a number above 0: with others every pixel is class 0, or what
    it is least like.

    Raises:
        ValueError: It is another.
    """
    if logit_scale is not None and not 0 < logit_scale < inf:
        raise ValueError(f'logit_scale: expected a number above 0, found {logit_scale}')
    return logit_scale


def check_precision(precision: str) -> str:
    """`precision`, if it is one; see `mmseg_siglip.precision`.

    Raises:
        ValueError: It is none.
    """
    if precision not in PRECISIONS:
        raise ValueError(
            f'precision: expected one of {", ".join(PRECISIONS)}, found {precision!r}'
            f'{did_you_mean(precision, PRECISIONS)}'
        )
    return precision


def check_finite(
    finite: Sequence[Tensor | bool],
    samples: Sequence[BaseDataElement],
    precision: str | None = None,
) -> None:
    """Refuse predictions that go by what is no number; later, within `doubts`.

    Args:
        finite: Whether each image's goes by numbers alone.
        samples: Of the images; a path is named in the error.
        precision: The number format that they were made in, if that is known.

    Raises:
        ValueError: One does not.
    """
    reason = f', or too large for precision={precision!r}' if precision else ''
    with doubts() as held:
        for good, sample in zip(finite, samples, strict=True):
            name = sample.metainfo.get('img_path', 'the image')
            error = ValueError(
                f'{name}: expected a prediction of finite numbers, found NaN or infinity; are the '
                f'weights damaged{reason}?'
            )
            held.append(Doubt(good, error))


def flipped_axes(sample: SegDataSample) -> tuple[int, ...]:
    """Axes along which an augmented image, and so its result, is mirrored."""
    direction = sample.metainfo.get('flip_direction') if sample.metainfo.get('flip') else None
    return {None: (), 'horizontal': (-1,), 'vertical': (-2,), 'diagonal': (-2, -1)}[direction]


def places_by(keys: Iterable[Hashable]) -> dict[Hashable, list[int]]:
    """Where each key stands, keys in the order in which they come."""
    places: dict[Hashable, list[int]] = {}
    for place, key in enumerate(keys):
        places.setdefault(key, []).append(place)
    return places

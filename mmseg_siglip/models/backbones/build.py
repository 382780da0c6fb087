"""One name or path to the backbone that it belongs to."""

from __future__ import annotations

from open_clip.constants import HF_CONFIG_NAME

from mmseg_siglip.models.backbones.base import VisionLanguageBackbone
from mmseg_siglip.registry import MODELS
from mmseg_siglip.weights.source import CONFIG_NAME, Source


def encoder_kinds() -> list[type[VisionLanguageBackbone]]:
    """Every encoder that is registered, in the order of registration."""
    return [
        kind
        for kind in MODELS.module_dict.values()
        if isinstance(kind, type) and issubclass(kind, VisionLanguageBackbone)
    ]


def build_encoder(
    name_or_path: str | Source, *, revision: str | None = None, **options
) -> VisionLanguageBackbone:
    """Build the backbone of a checkpoint, its kind found from what the checkpoint holds.

    Args:
        name_or_path: A file, a folder, a Hub id, ``NAME:TAG`` of open_clip, an OpenAI name, the
            name of a checkpoint that ships with this package, or a folder of peft's LoRA adapters,
            which are added to the checkpoint of transformers that it names.
        revision: Commit of a Hub id.
        options: Passed to the backbone.

    Raises:
        ValueError: Nothing known is there; the message lists what was looked for.
    """
    source = Source.open_encoder(name_or_path, revision=revision)
    return find_encoder(source)(source, **options)


def find_encoder(source: Source) -> type[VisionLanguageBackbone]:
    """The kind of encoder that says that a checkpoint is its own; see `build_encoder`."""
    for kind in encoder_kinds():
        if kind.recognises(source):
            return kind
    looked_for = (
        f'{CONFIG_NAME} of transformers with model_type '
        f'{", ".join(name for kind in encoder_kinds() for name in kind.model_types)}, '
        f'{HF_CONFIG_NAME} of open_clip, or the state dict of one of '
        f'{", ".join(kind.__name__ for kind in encoder_kinds())}'
    )
    raise ValueError(f'{source}: {found_in(source)}; looked for {looked_for}')


def find_encoder_type(name_or_path: str | Source) -> str:
    """The registered name of the encoder that a checkpoint belongs to; see `build_encoder`."""
    return find_encoder(Source.open_encoder(name_or_path)).__name__


def found_in(source: Source) -> str:
    """What a source holds, as far as it tells."""
    if source.is_file:
        return (
            f'no encoder found among its {len(source.tensors)} tensors '
            f'(first {next(iter(source.tensors))})'
        )
    if source.config:
        return f'found model_type {source.model_type!r}'
    if source.is_hub:
        return 'no such file or folder, and no model of that name can be reached on the Hub'
    return 'no encoder found'

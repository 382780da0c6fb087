"""Which family of depth models a checkpoint is of, by what it holds."""

from __future__ import annotations

from typing import Any

from mmseg_siglip.misspelt import did_you_mean
from mmseg_siglip.models.backbones.build import found_in
from mmseg_siglip.models.depth_models.published import PublishedDepth
from mmseg_siglip.registry import DEPTH_MODELS
from mmseg_siglip.weights.checkpoint import is_mmengine_file
from mmseg_siglip.weights.source import CONFIG_NAME, Source


def depth_kinds() -> list[type[PublishedDepth]]:
    """Every family that is registered."""
    DEPTH_MODELS.import_from_location()
    return list(DEPTH_MODELS.module_dict.values())


def build_depth_model(
    pretrained: str | Source | None, *, revision: str | None = None, **options: Any
) -> PublishedDepth:
    """Build a published model of depth, its family found from what the checkpoint holds.

    Args:
        pretrained: A folder or Hub id of transformers, or a file; see the families.
        revision: Commit of a Hub id.
        options: The family's own; None counts as not given.

    Raises:
        ValueError: Nothing known is there, or an option is another family's.
    """
    if pretrained is None:
        raise ValueError('expected the file, folder or Hub id of a depth model, found none')
    source = Source.open(pretrained, revision=revision)
    kind = find_depth_kind(source)
    options = {name: value for name, value in options.items() if value is not None}
    unknown = [name for name in options if name not in kind.options]
    if unknown:
        raise ValueError(
            f'{source}: {", ".join(unknown)} means nothing for {kind.__name__}, which takes '
            f'{", ".join(kind.options) or "no options"}{did_you_mean(unknown[0], kind.options)}'
        )
    return kind(source, **options)


def find_depth_kind(source: Source) -> type[PublishedDepth]:
    """The family that says that a checkpoint is its own.

    Raises:
        ValueError: There is none; the message lists what was looked for.
    """
    kinds = depth_kinds()
    for kind in kinds:
        if kind.recognises(source):
            return kind
    if source.is_file and is_mmengine_file(source.path):
        raise ValueError(
            f'{source} is of a model that MMEngine trained, which its config describes: expected '
            '--config CONFIG --checkpoint FILE, or DepthPredictor.from_config, found it as a '
            'published model'
        )
    names = ', '.join(name for kind in kinds for name in kind.model_types)
    releases = ' or '.join(kind.releases for kind in kinds if kind.releases)
    found = found_in(source).replace('encoder', 'depth model')
    raise ValueError(
        f'{source}: {found}; looked for {CONFIG_NAME} of transformers with model_type {names}, or '
        f'{releases}'
    )

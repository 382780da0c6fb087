"""Every figure that has been published for a config of ours, as a row."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from mmengine.config import Config
from open_clip.pretrained import get_pretrained_cfg

from mmseg_siglip.api.load import read_config
from mmseg_siglip.cli.common import config_folder
from mmseg_siglip.cli.jobs.encoders import apply_encoder
from mmseg_siglip.cli.jobs.protocol import CONFIGS_ARE_OF, apply_own, set_fields
from mmseg_siglip.registry import DENSE_METHODS
from mmseg_siglip.weights.source import split_name

TRAINING_FREE = 'sclip'
METAFILE = 'metafile.yml'
PUBLISHED = 'published'
PUBLISHED_ENCODER = ('ViT-B-16', 'openai')


@dataclass(frozen=True)
class PublishedRow:
    """One figure, or several of one evaluation.

    Attributes:
        name: What ``reproduce`` calls the config: its name, behind its folder unless that is
            configs/sclip.
        method: A dense method; empty for a trained model.
        metrics: Name to value in percent.
        source: Where it stands.
        encoder: A file of configs/_base_/encoders; None for the config's own.
        weights: open_clip's names of the encoder, where the model is not trained.
    """

    name: str
    method: str
    metrics: dict[str, float]
    source: str
    encoder: str | None = None
    weights: tuple[str, str] | None = None

    @property
    def data(self) -> str:
        """The name of the config alone."""
        return Path(self.name).name

    @property
    def path(self) -> Path:
        folder = config_folder()
        place = folder / f'{self.name}.py'
        return place if '/' in self.name else folder / TRAINING_FREE / f'{self.name}.py'

    def config(self) -> Config:
        """The settings that the figure was published for."""
        cfg = read_config(self.path)
        if self.encoder is not None:
            apply_encoder(cfg, self.encoder)
        if self.method:
            set_fields(cfg, apply_own(cfg, self.method))
        return cfg


def published_rows() -> list[PublishedRow]:
    """All rows: those of the metafiles, then those of the dense methods."""
    return [*_of_metafiles(), *_of_methods()]


def _of_metafiles() -> Iterator[PublishedRow]:
    for path in sorted(config_folder().glob(f'*/{METAFILE}')):
        entries: list[dict[str, Any]] = yaml.safe_load(path.read_text(encoding='utf-8'))['Models']
        free = path.parent.name == TRAINING_FREE
        for entry in entries:
            stem = Path(entry['Config']).stem
            for result in entry.get('Results', ()):
                if result['Source'].startswith(PUBLISHED):
                    yield PublishedRow(
                        name=stem if free else f'{path.parent.name}/{stem}',
                        method=CONFIGS_ARE_OF if free else '',
                        metrics=dict(result['Metrics']),
                        source=result['Source'],
                        encoder=result.get('Encoder'),
                        weights=PUBLISHED_ENCODER if free else None,
                    )


def _of_methods() -> Iterator[PublishedRow]:
    for name, kind in sorted(DENSE_METHODS.module_dict.items()):
        module = sys.modules[kind.__module__]
        for data, figure in getattr(module, 'PUBLISHED_MIOU', {}).items():
            yield PublishedRow(
                name=data,
                method=name,
                metrics=dict(mIoU=figure),
                source=f'{PUBLISHED}, {module.SOURCE}',
                weights=getattr(module, 'PUBLISHED_ENCODER', PUBLISHED_ENCODER),
            )


def is_published_encoder(source: str, wanted: tuple[str, str] = PUBLISHED_ENCODER) -> bool:
    """Whether weights are those of open_clip's names: by name, or a file by its SHA-256."""
    path = Path(source)
    if path.is_file():
        url = get_pretrained_cfg(*wanted).get('url', '')
        return hashlib.sha256(path.read_bytes()).hexdigest() in url
    name, tag = split_name(source)
    return (name.removesuffix('-quickgelu'), tag) == wanted

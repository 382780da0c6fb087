"""Whatever names a checkpoint, opened once: its form, its configuration, its tensors."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from huggingface_hub import hf_hub_download
from open_clip import get_model_config
from open_clip.constants import HF_CONFIG_NAME
from open_clip.pretrained import get_pretrained_cfg
from torch import Tensor
from transformers import PretrainedConfig

from mmseg_siglip.weights.json_file import read_object
from mmseg_siglip.weights.peft_folder import Adapters
from mmseg_siglip.weights.state import read_state_dict, refuse_images, refuse_missing_path

ASSETS = Path(__file__).parents[1] / 'assets'
CONFIG_NAME = 'config.json'


def bundled(source: Any) -> Any:
    """The folder of a checkpoint that ships with this package, or `source` unchanged."""
    if isinstance(source, str) and source.isidentifier() and (ASSETS / source).is_dir():
        return str(ASSETS / source)
    return source


@dataclass(frozen=True)
class Source:
    """A checkpoint of an encoder: a file, a folder, a Hub id, or a name of open_clip's.

    Whoever finds out what it is and whoever builds a model of it share one `Source`, so that its
    file is read once.

    Attributes:
        name: What the user wrote.
        path: The file or folder, if it is one.
        open_clip_name: (architecture, tag), if it is a name of open_clip's.
        revision: Commit of a Hub id.
        adapters: What is added to its weights.
    """

    name: str
    path: Path | None = None
    open_clip_name: tuple[str, str] | None = None
    revision: str | None = None
    adapters: Adapters | None = None

    @classmethod
    def open_encoder(cls, source: str | Path | Source, *, revision: str | None = None) -> Source:
        """`open`, and of a folder of adapters the checkpoint that they belong to.

        Raises:
            ValueError: See `open`; or that is no checkpoint of transformers.
        """
        source = cls.open(source, revision=revision)
        found = None if source.path is None else Adapters.of(source.path)
        if found is None:
            return source
        base = cls.open(found.base, revision=found.revision)
        if base.is_file or base.open_clip_name or base.open_clip_config:
            raise ValueError(
                f'{source}: expected adapters of a checkpoint of transformers, found those of '
                f'{base}'
            )
        return replace(base, adapters=found)

    @classmethod
    def open(cls, source: str | Path | Source, *, revision: str | None = None) -> Source:
        """Tell the form of a source.

        Raises:
            ValueError: It can only be a path, and nothing is there; or a folder of images.
        """
        if isinstance(source, Source):
            return source
        source = str(bundled(source))
        path = Path(source)
        if path.exists():
            refuse_images(path)
            return cls(source, path=path, revision=revision)
        name, tag = split_name(source)
        if tag:
            return cls(source, open_clip_name=(name, tag), revision=revision)
        refuse_missing_path(source)
        return cls(source, revision=revision)

    def __str__(self) -> str:
        return self.name

    @property
    def is_file(self) -> bool:
        return self.path is not None and self.path.is_file()

    @property
    def is_hub(self) -> bool:
        return self.path is None and self.open_clip_name is None

    @property
    def repository(self) -> str:
        """The Hub id, without open_clip's mark."""
        return self.name.removeprefix('hf-hub:')

    @property
    def folder(self) -> Path | None:
        """Where the files beside it are looked for."""
        return self.path.parent if self.is_file else self.path

    @cached_property
    def config(self) -> dict[str, Any]:
        """transformers' ``config.json``; empty where there is none."""
        if self.is_hub:
            try:
                return PretrainedConfig.get_config_dict(self.repository, revision=self.revision)[0]
            except (OSError, ValueError):
                return {}
        return self._read_json(CONFIG_NAME)

    @cached_property
    def open_clip_config(self) -> dict[str, Any]:
        """open_clip's ``open_clip_config.json``; empty where there is none."""
        if self.is_hub:
            try:
                path = hf_hub_download(self.repository, HF_CONFIG_NAME, revision=self.revision)
            except (OSError, ValueError):
                return {}
            return _checked(read_object(path), path)
        return _checked(self._read_json(HF_CONFIG_NAME), self.folder)

    @cached_property
    def open_clip_model(self) -> dict[str, Any]:
        """open_clip's configuration of the model, by name or file; empty where there is none."""
        if self.open_clip_name is not None:
            return get_model_config(self.open_clip_name[0]) or {}
        return self.open_clip_config.get('model_cfg', self.open_clip_config)

    @property
    def timm_model(self) -> str:
        """timm's name of the vision tower inside an open_clip model; empty where it has none."""
        return str(self.open_clip_model.get('vision_cfg', {}).get('timm_model_name') or '')

    def _read_json(self, name: str) -> dict[str, Any]:
        if self.folder is None or not (self.folder / name).is_file():
            return {}
        return read_object(self.folder / name)

    @property
    def model_type(self) -> str | None:
        """transformers' name of the kind of model."""
        kind = self.config.get('model_type')
        return kind if isinstance(kind, str) else None

    @cached_property
    def tensors(self) -> dict[str, Tensor]:
        """What a file holds, see `read_state_dict`; of other forms nothing, as their libraries read
        them."""
        return read_state_dict(self.path) if self.is_file else {}

    def has(self, ending: str) -> bool:
        """Whether a tensor's name ends so."""
        return any(name.endswith(ending) for name in self.tensors)


def _checked(config: dict[str, Any], where: Any) -> dict[str, Any]:
    """open_clip's configuration, if its parts are objects.

    Raises:
        ValueError: One is not.
    """
    model = config.get('model_cfg', config)
    parts = dict(model_cfg=model, preprocess_cfg=config.get('preprocess_cfg', {}))
    if isinstance(model, dict):
        parts |= {name: model.get(name, {}) for name in ('vision_cfg', 'text_cfg')}
    for name, part in parts.items():
        if not isinstance(part, dict):
            raise ValueError(f'{where}: expected an object as {name}, found {part!r}')
    return config


def split_name(source: str) -> tuple[str, str | None]:
    """``NAME:TAG`` to (NAME, TAG); an OpenAI name to its open_clip pair; else (source, None)."""
    if ':' in source and not source.startswith('hf-hub:'):
        return tuple(source.split(':', 1))
    openai_name = source.replace('/', '-').replace('@336px', '-336')
    if source.startswith('ViT-') and get_pretrained_cfg(openai_name, 'openai'):
        return openai_name, 'openai'
    return source, None

"""The one place that mends upstream; every mend says why, and when it can go.

A mend waits for the module that it is about, and comes right after that module's own code; where
that has run already, it comes at once. So ``import mmseg_siglip`` is quick, and it makes no
difference whether mmcv and mmengine are imported before or after it.
"""

from __future__ import annotations

import importlib.util
import logging
import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, NoReturn


def _missing_op(name: str):
    def call(*args, **kwargs) -> NoReturn:
        raise RuntimeError(
            f'mmcv.ops.{name} is a compiled operator and mmcv-lite has none; '
            "install the full 'mmcv>=2.0.0rc4,<2.2' to use it."
        )

    call.__name__ = name
    return call


def _stand_ins(module: str, functions: Sequence[str]) -> SimpleNamespace:
    return SimpleNamespace(**{name: _missing_op(name) for name in functions})


def uses_stand_ins() -> bool:
    """Whether compiled operators are missing: True on mmcv-lite, False on the full mmcv."""
    return importlib.util.find_spec('mmcv._ext') is None


def supply_compiled_ops(ext_loader: ModuleType) -> None:
    """Let MMSegmentation import on mmcv-lite.

    Why: mmseg 1.2.2 imports names from ``mmcv.ops`` without a guard, and mmcv-lite ships the
    Python side of ``mmcv.ops`` without the compiled ``mmcv._ext`` behind it. Its loader is
    replaced by one whose operators raise when called. ``mmcv._ext`` itself is left absent,
    since MMEngine asks ``pkgutil`` for it to learn whether operators exist.
    Can go: when mmseg guards those imports.
    """
    if uses_stand_ins():
        ext_loader.load_ext = _stand_ins


def find_packages_without_pkg_resources(package_utils: ModuleType) -> None:
    """Let ``_base_ = 'mmseg::...'`` and ``get_config('mmseg::...')`` work on setuptools 82.

    Why: MMEngine 0.10.7 looks packages up with ``pkg_resources``, which setuptools 82 removed.
    Can go: with the first MMEngine release that uses importlib (its main branch does).
    """

    def find(package: str) -> Path | None:
        from mmengine.config.utils import MODULE2PACKAGE

        modules = {package: module for module, package in MODULE2PACKAGE.items()}
        spec = importlib.util.find_spec(modules.get(package, package))
        return Path(spec.origin) if spec is not None and spec.origin is not None else None

    def is_installed(package: str) -> bool:
        return find(package) is not None

    def get_installed_path(package: str) -> str:
        origin = find(package)
        if origin is None:
            raise ModuleNotFoundError(f'the package {package} is not installed.', name=package)
        return str(origin.parent)

    importers = ('mmengine.utils', 'mmengine.config.config', 'mmengine.hub.hub')
    for module in (package_utils, *map(sys.modules.get, importers)):
        for function in (is_installed, get_installed_path):
            if hasattr(module, function.__name__):
                setattr(module, function.__name__, function)


def print_no_notes_of_debugging(logger: ModuleType) -> None:
    """Keep standard output for what a command answers.

    Why: at import, onedl-mmsegmentation 1.4.2 says twice that it found no OneDL, for debugging, but
    to no logger, and what MMEngine's ``print_log`` has no logger for it prints, whatever its level.
    Can go: when either looks at the level.
    """
    say = logger.print_log

    def print_log(msg: Any, logger: Any = None, level: int = logging.INFO) -> None:
        if logger is not None or level >= logging.INFO:
            say(msg, logger, level)

    for module in (logger, *map(sys.modules.get, ('mmengine.logging', 'mmengine'))):
        if getattr(module, 'print_log', None) is say:
            module.print_log = print_log


def find_own_configs(config_utils: ModuleType) -> None:
    """Let ``_base_ = 'mmseg_siglip::sclip/voc21.py'`` and ``get_config`` find our configs.

    Why: MMEngine 0.10.7 knows the packages of a closed list, and looks for their configs only where
    a wheel has them, in ``.mim``, which a checkout has not.
    Can go: when MMEngine takes any package, and finds the configs of a checkout.
    """
    from mmseg_siglip.configs import PACKAGE, config_folder

    find = config_utils._get_cfg_metainfo

    def find_or_own(package_path: str, cfg_path: str) -> dict[str, Any]:
        if Path(package_path) != PACKAGE:
            return find(package_path, cfg_path)
        path = config_folder() / f'{cfg_path.removesuffix(".py")}.py'
        if not path.is_file():
            raise FileNotFoundError(f'{PACKAGE.name}::{cfg_path}: there is no file {path}')
        return dict(Config=str(path))

    config_utils.MODULE2PACKAGE[PACKAGE.name] = PACKAGE.name
    for module in (config_utils, sys.modules.get('mmengine.hub.hub')):
        if module is not None:
            module._get_cfg_metainfo = find_or_own


def take_unset_options(inference: ModuleType) -> None:
    """Let MMSegmentation's `init_model` build our models.

    Why: mmseg 1.2.2 gives every model ``pretrained=None`` and ``train_cfg=None``, which ours do not
    take.
    Can go: when it gives them only to models that do.
    """
    from inspect import Parameter, signature

    registry = inference.MODELS

    def build(config: Any) -> Any:
        with registry.switch_scope_and_registry(None) as scoped:
            kind = scoped.get(config['type'])
        taken = signature(kind).parameters if kind is not None else {}
        if not any(parameter.kind is Parameter.VAR_KEYWORD for parameter in taken.values()):
            unset = {key for key in ('pretrained', 'train_cfg') if config.get(key) is None}
            config = {key: config[key] for key in config if key in taken or key not in unset}
        return registry.build(config)

    inference.MODELS = SimpleNamespace(build=build)


def read_yaml_as_data(yaml_handler: ModuleType) -> None:
    """Keep YAML files from running Python.

    Why: MMEngine reads YAML with a loader that obeys ``!!python/object/apply`` and its like.
    Can go: when MMEngine reads with ``yaml.safe_load``.
    """

    def load_from_fileobj(self, file: Any, **kwargs) -> Any:
        return yaml_handler.yaml.safe_load(file)

    yaml_handler.YamlHandler.load_from_fileobj = load_from_fileobj


def read_checkpoints_as_data(checkpoint: ModuleType) -> None:
    """Keep checkpoints from running Python.

    Why: MMEngine's loaders unpickle.
    Can go: when they read with ``weights_only=True`` and execute no config of a checkpoint.
    """
    from mmseg_siglip.weights.schemes import replace_loaders

    replace_loaders(checkpoint.CheckpointLoader)


MENDS: dict[str, Callable[[ModuleType], None]] = {
    'mmcv.utils.ext_loader': supply_compiled_ops,
    'mmengine.utils.package_utils': find_packages_without_pkg_resources,
    'mmengine.config.utils': find_own_configs,
    'mmengine.logging.logger': print_no_notes_of_debugging,
    'mmengine.fileio.handlers.yaml_handler': read_yaml_as_data,
    'mmengine.runner.checkpoint': read_checkpoints_as_data,
    'mmseg.apis.inference': take_unset_options,
}


class MendingFinder:
    """Finds the modules of `MENDS` where Python would, and mends each once its code has run."""

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, path, target) if name in MENDS else None
        if spec is None:
            return None
        run = spec.loader.exec_module

        def run_and_mend(module: ModuleType) -> None:
            run(module)
            if module.__name__ == name:  # a zip file has one loader for all of its modules
                MENDS[name](module)

        spec.loader.exec_module = run_and_mend
        return spec


for _name, _mend in MENDS.items():
    if _name in sys.modules:
        _mend(sys.modules[_name])
sys.meta_path.insert(0, MendingFinder)

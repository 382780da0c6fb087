"""The one place that mends upstream; every mend says why, and when it can go."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import yaml


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


def supply_compiled_ops() -> bool:
    """Let MMSegmentation import on mmcv-lite.

    Why: mmseg 1.2.2 imports names from ``mmcv.ops`` without a guard, and mmcv-lite ships the
    Python side of ``mmcv.ops`` without the compiled ``mmcv._ext`` behind it. Its loader is
    replaced by one whose operators raise when called. ``mmcv._ext`` itself is left absent,
    since MMEngine asks ``pkgutil`` for it to learn whether operators exist.
    Can go: when mmseg guards those imports.

    Returns:
        True if the stand-ins are in use, False if the full mmcv is installed.
    """
    if importlib.util.find_spec('mmcv._ext') is not None:
        return False
    from mmcv.utils import ext_loader

    ext_loader.load_ext = _stand_ins
    return True


def find_packages_without_pkg_resources() -> None:
    """Let ``_base_ = 'mmseg::...'`` and ``get_config('mmseg::...')`` work on setuptools 82.

    Why: MMEngine 0.10.7 looks packages up with ``pkg_resources``, which setuptools 82 removed.
    Can go: with the first MMEngine release that uses importlib (its main branch does).
    """
    import mmengine.config.config
    import mmengine.hub.hub
    import mmengine.utils.package_utils
    from mmengine.config.utils import MODULE2PACKAGE

    modules = {package: module for module, package in MODULE2PACKAGE.items()}

    def find(package: str) -> Path | None:
        spec = importlib.util.find_spec(modules.get(package, package))
        return Path(spec.origin) if spec is not None and spec.origin is not None else None

    def is_installed(package: str) -> bool:
        return find(package) is not None

    def get_installed_path(package: str) -> str:
        origin = find(package)
        if origin is None:
            raise ModuleNotFoundError(f'the package {package} is not installed.', name=package)
        return str(origin.parent)

    for module in (
        mmengine.utils,
        mmengine.utils.package_utils,
        mmengine.config.config,
        mmengine.hub.hub,
    ):
        for function in (is_installed, get_installed_path):
            if hasattr(module, function.__name__):
                setattr(module, function.__name__, function)


def read_yaml_as_data() -> None:
    """Keep YAML files from running Python.

    Why: MMEngine reads YAML with a loader that obeys ``!!python/object/apply`` and its like.
    Can go: when MMEngine reads with ``yaml.safe_load``.
    """
    from mmengine.fileio import register_handler
    from mmengine.fileio.handlers.yaml_handler import YamlHandler

    @register_handler(['yaml', 'yml'])
    class SafeYamlHandler(YamlHandler):
        def load_from_fileobj(self, file: Any, **kwargs) -> Any:
            return yaml.safe_load(file)


USES_STAND_INS = supply_compiled_ops()
find_packages_without_pkg_resources()
read_yaml_as_data()

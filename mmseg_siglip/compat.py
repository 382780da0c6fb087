"""The one place that mends upstream; every mend says why, and when it can go."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from types import SimpleNamespace
from typing import NoReturn


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


USES_STAND_INS = supply_compiled_ops()

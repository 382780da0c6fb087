"""Vision-language encoders (CLIP, SigLIP, TIPS, PE) for dense prediction in MMSegmentation."""

from importlib import import_module
from typing import Any

from mmseg_siglip import compat, versions  # noqa: F401  (mends what can work, refuses what cannot)
from mmseg_siglip.api import OFFERED
from mmseg_siglip.lazy import lazy

__version__ = '0.2.0.dev0'

PACKAGES = ('datasets', 'engine', 'evaluation', 'models', 'vlm')
_find, __dir__, __all__ = lazy(__name__, OFFERED)


def __getattr__(name: str) -> Any:
    return import_module(f'{__name__}.{name}') if name in PACKAGES else _find(name)

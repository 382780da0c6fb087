"""Vision-language encoders (CLIP, SigLIP, SigLIP 2) for dense prediction in MMSegmentation."""

from mmseg_siglip import compat  # noqa: F401  (mends mmcv and mmengine, whenever they come)
from mmseg_siglip.lazy import lazy

__version__ = '0.1.0'

PACKAGES = ('api', 'datasets', 'engine', 'evaluation', 'models', 'vlm')
__getattr__, __dir__, __all__ = lazy(
    __name__,
    {
        **{name: f'{__name__}.{name}' for name in PACKAGES},
    },
)

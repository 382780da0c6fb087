"""`mmseg_siglip.api` under its old name, with what stood beside it."""

from mmseg_siglip.api import OFFERED
from mmseg_siglip.lazy import lazy

BESIDE = {
    'mmseg_siglip.io.image': ('ImageLike', 'check_sides', 'decode_rgb', 'read_image'),
    'mmseg_siglip.api.load': ('load_trained', 'read_config'),
}
__getattr__, __dir__, __all__ = lazy(__name__, OFFERED | BESIDE)

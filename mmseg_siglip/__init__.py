"""Vision-language encoders (CLIP, SigLIP, SigLIP 2) for dense prediction in MMSegmentation."""

from mmseg_siglip import compat  # noqa: F401  isort: skip  (mends mmcv before mmseg is imported)
from mmseg_siglip import datasets, engine, evaluation, models, vlm  # noqa: F401

__version__ = '0.1.0'

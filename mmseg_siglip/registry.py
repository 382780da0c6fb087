"""Child registries of MMSegmentation's, scope ``mmseg_siglip``.

A name that is ours is found first; any other falls through to MMSegmentation, then MMEngine.
The scope lets a name exist here and there: ``DPTHead`` is ours, ``mmseg.DPTHead`` MMSeg's.
"""

from mmengine.registry import Registry
from mmseg import registry as mmseg

from mmseg_siglip import compat  # noqa: F401  (mmseg's own registries import on demand)

SCOPE = 'mmseg_siglip'


def _child(parent: Registry, location: str) -> Registry:
    return Registry(
        parent.name, parent=parent, scope=SCOPE, locations=[f'mmseg_siglip.{location}']
    )


MODELS = _child(mmseg.MODELS, 'models')
DATASETS = _child(mmseg.DATASETS, 'datasets')
TRANSFORMS = _child(mmseg.TRANSFORMS, 'datasets')
METRICS = _child(mmseg.METRICS, 'evaluation')
HOOKS = _child(mmseg.HOOKS, 'engine')
RUNNERS = _child(mmseg.RUNNERS, 'engine')
OPTIM_WRAPPERS = _child(mmseg.OPTIM_WRAPPERS, 'engine')

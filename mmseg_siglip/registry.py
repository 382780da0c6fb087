"""Child registries of MMSegmentation's, scope ``mmseg_siglip``.

A name that is ours is found first; any other falls through to MMSegmentation, then MMEngine.
The scope lets a name exist here and there: ``DPTHead`` is ours, ``mmseg.DPTHead`` MMSeg's.
"""

from mmengine.registry import Registry
from mmseg import registry as mmseg

SCOPE = 'mmseg_siglip'


def _child(parent: Registry, *locations: str) -> Registry:
    parent.import_from_location()  # a child finds in its parent only what is registered already
    places = [f'mmseg_siglip.{location}' for location in locations]
    return Registry(parent.name, parent=parent, scope=SCOPE, locations=places)


MODELS = _child(mmseg.MODELS, 'models', 'vlm.tower', 'vlm.trainer')
DATASETS = _child(mmseg.DATASETS, 'datasets')
TRANSFORMS = _child(mmseg.TRANSFORMS, 'datasets')
METRICS = _child(mmseg.METRICS, 'evaluation')
HOOKS = _child(mmseg.HOOKS, 'engine')
LOOPS = _child(mmseg.LOOPS, 'engine')
RUNNERS = _child(mmseg.RUNNERS, 'engine')
OPTIM_WRAPPERS = _child(mmseg.OPTIM_WRAPPERS, 'engine')
GUIDES = Registry('guide', scope=SCOPE, locations=['mmseg_siglip.models.guides'])
DEPTH_MODELS = Registry('depth model', scope=SCOPE, locations=['mmseg_siglip.models.depth_models'])
DENSE_METHODS = Registry('dense method', scope=SCOPE, locations=['mmseg_siglip.models.dense'])

# Nothing of ours is in these; without them MMEngine would not look further up, to MMSegmentation.
DATA_SAMPLERS = _child(mmseg.DATA_SAMPLERS, 'datasets')
EVALUATOR = _child(mmseg.EVALUATOR, 'evaluation')
INFERENCERS = _child(mmseg.INFERENCERS, 'engine')
LOG_PROCESSORS = _child(mmseg.LOG_PROCESSORS, 'engine')
MODEL_WRAPPERS = _child(mmseg.MODEL_WRAPPERS, 'models')
OPTIM_WRAPPER_CONSTRUCTORS = _child(mmseg.OPTIM_WRAPPER_CONSTRUCTORS, 'engine')
OPTIMIZERS = _child(mmseg.OPTIMIZERS, 'engine')
PARAM_SCHEDULERS = _child(mmseg.PARAM_SCHEDULERS, 'engine')
RUNNER_CONSTRUCTORS = _child(mmseg.RUNNER_CONSTRUCTORS, 'engine')
TASK_UTILS = _child(mmseg.TASK_UTILS, 'models')
VISBACKENDS = _child(mmseg.VISBACKENDS, 'engine')
VISUALIZERS = _child(mmseg.VISUALIZERS, 'engine')
WEIGHT_INITIALIZERS = _child(mmseg.WEIGHT_INITIALIZERS, 'models')

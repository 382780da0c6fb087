from mmseg_siglip.engine.checkpoint_hook import CheckpointHook
from mmseg_siglip.engine.optim_wrapper import AmpOptimWrapper
from mmseg_siglip.engine.runner import Runner
from mmseg_siglip.engine.unfreeze_hook import UnfreezeBackboneHook
from mmseg_siglip.engine.visualization_hook import SegVisualizationHook

__all__ = [
    'AmpOptimWrapper',
    'CheckpointHook',
    'Runner',
    'SegVisualizationHook',
    'UnfreezeBackboneHook',
]

from mmseg_siglip.engine.checkpoint_hook import CheckpointHook
from mmseg_siglip.engine.early_stopping_hook import EarlyStoppingHook
from mmseg_siglip.engine.finite_loss_hook import FiniteLossHook
from mmseg_siglip.engine.logger_hook import LoggerHook
from mmseg_siglip.engine.optim_wrapper import AmpOptimWrapper
from mmseg_siglip.engine.runner import Runner
from mmseg_siglip.engine.test_loop import TestLoop
from mmseg_siglip.engine.unfreeze_hook import UnfreezeBackboneHook
from mmseg_siglip.engine.visualization_hook import SegVisualizationHook

__all__ = [
    'AmpOptimWrapper',
    'CheckpointHook',
    'EarlyStoppingHook',
    'FiniteLossHook',
    'LoggerHook',
    'Runner',
    'SegVisualizationHook',
    'TestLoop',
    'UnfreezeBackboneHook',
]

"""MMEngine's log of a training, which says more of its beginning."""

from __future__ import annotations

from mmengine.hooks import LoggerHook as BaseLoggerHook
from mmengine.runner import Runner

from mmseg_siglip.registry import HOOKS

FIRST = (1, 2, 5, 10, 20)
"""Iterations of a training that are logged before the first multiple of the interval."""


@HOOKS.register_module()
class LoggerHook(BaseLoggerHook):
    """MMEngine's hook, which also logs the `FIRST` iterations of a training.

    A loss that is wrong, or a training that takes days, shows at once.
    """

    begun = 0

    def before_train(self, runner: Runner) -> None:
        super().before_train(runner)
        self.begun = runner.iter

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: dict | None = None,
    ) -> None:
        iteration = runner.iter + 1
        early = iteration - self.begun in FIRST and iteration - self.begun < self.interval
        if early and not self.every_n_inner_iters(batch_idx, self.interval):
            scalars, text = runner.log_processor.get_log_after_iter(runner, batch_idx, 'train')
            runner.logger.info(text)
            runner.visualizer.add_scalars(scalars, step=iteration, file_path=self.json_log_path)
        super().after_train_iter(runner, batch_idx, data_batch, outputs)

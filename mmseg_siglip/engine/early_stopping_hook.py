"""MMEngine's early stopping, for which a score that is no number is not the best."""

from __future__ import annotations

import math
from collections.abc import Mapping

from mmengine.hooks import EarlyStoppingHook as BaseEarlyStoppingHook
from mmengine.runner import Runner

from mmseg_siglip.engine.checkpoint_hook import is_finite
from mmseg_siglip.registry import HOOKS


@HOOKS.register_module()
class EarlyStoppingHook(BaseEarlyStoppingHook):
    """MMEngine's hook, which with ``check_finite=False`` takes NaN for the best and never stops.

    Here a score that is not finite is then one without improvement. A training that is resumed
    counts anew, which the log says.

    Raises:
        ValueError: `min_delta` would make a worse score the best, or `patience` is below 1.
    """

    def __init__(self, monitor: str, **kwargs) -> None:
        super().__init__(monitor, **kwargs)
        least = kwargs.get('min_delta', 0)
        if not (math.isfinite(least) and least >= 0):
            raise ValueError(f'EarlyStoppingHook.min_delta: expected 0 or more, found {least}')
        if self.patience < 1:
            raise ValueError(
                f'EarlyStoppingHook.patience: expected 1 or more, found {self.patience}'
            )

    def before_train(self, runner: Runner) -> None:
        if runner.iter:
            runner.logger.info(
                f'EarlyStoppingHook knows no {self.monitor} from before iteration {runner.iter} '
                'and counts anew.'
            )

    def after_val_epoch(self, runner: Runner, metrics: Mapping[str, float | None]) -> None:
        if self.monitor not in metrics or is_finite(metrics[self.monitor]):
            return super().after_val_epoch(runner, metrics)
        if self.check_finite:
            return super().after_val_epoch(runner, {**metrics, self.monitor: math.nan})
        runner.logger.warning(
            f'{self.monitor} is {metrics[self.monitor]}, which is no improvement.'
        )
        self.wait_count += 1
        if self.wait_count >= self.patience:
            runner.train_loop.stop_training = True
            runner.logger.info(
                f'{self.monitor} did not improve in the last {self.wait_count} records; the best '
                f'is {self.best_score:.3f}.'
            )

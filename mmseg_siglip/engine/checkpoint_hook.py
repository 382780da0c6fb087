"""MMEngine's checkpoint hook, in an order in which a kill loses nothing."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from mmengine.dist import is_main_process
from mmengine.fileio import LocalBackend, register_backend
from mmengine.hooks import CheckpointHook as BaseCheckpointHook
from mmengine.runner import Runner
from torch import Tensor

from mmseg_siglip.engine.finite_loss_hook import what_is_lost
from mmseg_siglip.engine.progress import believe_own
from mmseg_siglip.io.files import write_atomically
from mmseg_siglip.misspelt import refuse_strange_settings
from mmseg_siglip.registry import HOOKS
from mmseg_siglip.weights.publish import publish

LOCAL = ('local', 'disk', 'atomic')
"""What backends call a local disk."""


@register_backend('atomic', force=True)
class AtomicBackend(LocalBackend):
    """Local files that appear whole or not at all; removals can be put off."""

    def __init__(self) -> None:
        self.postponed: list[str] | None = None

    def put(self, obj: bytes | memoryview, filepath: str | Path) -> None:
        write_atomically(obj, filepath)

    def put_text(self, obj: str, filepath: str | Path, encoding: str = 'utf-8') -> None:
        write_atomically(obj.encode(encoding), filepath)

    def remove(self, filepath: str | Path) -> None:
        if self.postponed is None:
            super().remove(filepath)
        else:
            self.postponed.append(str(filepath))

    @contextmanager
    def removals_last(self) -> Iterator[None]:
        """What is removed inside the block is removed at its end, and kept if the block fails."""
        self.postponed = []
        try:
            yield
            removals = self.postponed
        finally:
            self.postponed = None
        for filepath in removals:
            self.remove(filepath)


def require_local(out_dir: str | Path | None, *storages: Mapping | None) -> None:
    """Refuse other storage than a local disk.

    Args:
        out_dir: Where checkpoints go.
        storages: MMEngine's ``backend_args`` and ``file_client_args``.

    Raises:
        ValueError: The folder is an address, or an argument names another backend.
    """
    elsewhere = [args for args in storages if args and args.get('backend') not in LOCAL]
    if out_dir is not None and '://' in str(out_dir):
        elsewhere.append(out_dir)
    if elsewhere:
        raise ValueError(f'our Runner writes to local disks only, found {elsewhere[0]}.')


def checkpoint_folder(hook: BaseCheckpointHook, runner: Runner) -> Path:
    """Where a hook will keep the checkpoints of a run; asked before the training."""
    run = Path(runner.work_dir)
    return run if hook.out_dir in (None, runner.work_dir) else Path(hook.out_dir, run.name)


@HOOKS.register_module()
class CheckpointHook(BaseCheckpointHook):
    """MMEngine's hook, for local disks.

    MMEngine removes an old checkpoint before it writes the new one, and writes in place, so that a
    kill can leave none (with ``max_keep_ckpts=1``) or half a file. The order here: write the new
    one atomically, point ``last_checkpoint`` at it atomically, remove the old one.

    Nothing is saved while the loss or a weight is not finite (see `FiniteLossHook`), and a score
    that is not finite is never the best. An evaluation outside of a training saves nothing.

    Refused, where MMEngine's goes on: storage that is not a local disk; of a checkpoint that is
    resumed from, best checkpoints and steps to keep that are not files directly in the run's own
    folder, by the names that this hook gives (see `believe_own`); checkpoints that are folders.
    """

    training = False

    def before_train(self, runner: Runner) -> None:
        refuse_strange_settings(type(self), self.args, further=('meta',))
        require_local(self.out_dir, self.backend_args, self.file_client_args)
        self.backend_args = self.file_client_args = None
        folder, info = checkpoint_folder(self, runner), runner.message_hub.runtime_info
        for sentence in believe_own(info, folder, self.filename_tmpl):
            runner.logger.warning(sentence)
        outdated: list[int] = []
        if self.max_keep_ckpts > 0 and 'keep_ckpt_ids' in info:
            outdated = info['keep_ckpt_ids'][: -self.max_keep_ckpts]
            info['keep_ckpt_ids'] = info['keep_ckpt_ids'][-self.max_keep_ckpts :]
        super().before_train(runner)
        self.file_backend, self.training = AtomicBackend(), True
        for step in outdated:
            self._remove(step)

    def after_train(self, runner: Runner) -> None:
        super().after_train(runner)
        self.training = False

    def _publish_model(self, runner: Runner, ckpt_path: str | None) -> None:
        if ckpt_path is None or not is_main_process():
            return  # of several scores, one that was never finite has no best
        target = publish(ckpt_path, self.published_keys)
        runner.logger.info(f'{ckpt_path} is published as {target}.')

    def _remove(self, step: int) -> None:
        file = Path(self.out_dir, self.filename_tmpl.format(step))
        if is_main_process() and file.is_file():
            self.file_backend.remove(file)

    def _save_checkpoint(self, runner: Runner) -> None:
        if lost := what_is_lost(runner):
            runner.logger.warning(f'No checkpoint is saved: {lost} is not finite.')
        else:
            super()._save_checkpoint(runner)

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        outdated = None
        if self.max_keep_ckpts > 0 and step not in self.keep_ckpt_ids:
            if len(self.keep_ckpt_ids) == self.max_keep_ckpts:
                outdated = self.keep_ckpt_ids.popleft()
            self.keep_ckpt_ids.append(step)
            runner.message_hub.update_info('keep_ckpt_ids', list(self.keep_ckpt_ids))
        name = self.filename_tmpl.format(step)
        self.last_ckpt = self.file_backend.join_path(self.out_dir, name)
        runner.message_hub.update_info('last_ckpt', self.last_ckpt)
        runner.save_checkpoint(
            self.out_dir,
            name,
            save_optimizer=self.save_optimizer,
            save_param_scheduler=self.save_param_scheduler,
            meta=meta,
            by_epoch=self.by_epoch,
            **self.args,
        )
        if not is_main_process():
            return
        self.file_backend.put_text(self.last_ckpt, Path(runner.work_dir, 'last_checkpoint'))
        if outdated is not None:
            self._remove(outdated)

    def _save_best_checkpoint(self, runner: Runner, metrics: dict) -> None:
        if not (self.training and self.save_best) or what_is_lost(runner):
            return
        keys = [key for key in self.key_indicators if key != 'auto']
        unknown = [key for key in keys if key not in metrics]
        if unknown:
            raise ValueError(
                f'CheckpointHook.save_best: expected one of {", ".join(metrics)}, '
                f'found {unknown[0]}'
            )
        wrong = [key for key in keys or list(metrics)[:1] if not is_finite(metrics[key])]
        for key in wrong:
            runner.logger.warning(f'{key} is {metrics[key]}, which is not the best.')
        scores = {key: None if key in wrong else value for key, value in metrics.items()}
        with self.file_backend.removals_last():
            super()._save_best_checkpoint(runner, scores)


def is_finite(score: float | Tensor | None) -> bool:
    return score is not None and math.isfinite(score)

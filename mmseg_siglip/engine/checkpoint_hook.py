"""MMEngine's checkpoint hook, in an order in which a kill loses nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmengine.dist import is_main_process
from mmengine.fileio import LocalBackend, register_backend
from mmengine.hooks import CheckpointHook as BaseCheckpointHook
from mmengine.runner import Runner

from mmseg_siglip.io.files import write_atomically
from mmseg_siglip.registry import HOOKS


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


@HOOKS.register_module()
class CheckpointHook(BaseCheckpointHook):
    """MMEngine's hook, for local disks.

    MMEngine removes an old checkpoint before it writes the new one, and writes in place, so that a
    kill can leave none (with ``max_keep_ckpts=1``) or half a file. The order here: write the new
    one atomically, point ``last_checkpoint`` at it atomically, remove the old one.
    """

    def before_train(self, runner: Runner) -> None:
        elsewhere = self.backend_args or self.file_client_args
        if elsewhere:
            raise ValueError(f'CheckpointHook writes to local disks only, found {elsewhere}.')
        super().before_train(runner)
        self.file_backend = AtomicBackend()

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
            old = self.file_backend.join_path(self.out_dir, self.filename_tmpl.format(outdated))
            if self.file_backend.isfile(old):
                self.file_backend.remove(old)

    def _save_best_checkpoint(self, runner: Runner, metrics: dict) -> None:
        with self.file_backend.removals_last():
            super()._save_best_checkpoint(runner, metrics)

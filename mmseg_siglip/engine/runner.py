"""MMEngine's Runner with plain checkpoints, a sure resume, and distribution over CPUs."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as torch_dist
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.dist import broadcast_object_list, get_dist_info, is_main_process
from mmengine.hooks import CheckpointHook as BaseCheckpointHook
from mmengine.hooks import Hook
from mmengine.logging import HistoryBuffer, MMLogger
from mmengine.model import BaseTTAModel, MMDistributedDataParallel, is_model_wrapper
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.runner import BaseLoop, CheckpointLoader, load_state_dict
from mmengine.runner import Runner as BaseRunner
from torch import nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader

from mmseg_siglip.engine.checkpoint_hook import checkpoint_folder, require_local
from mmseg_siglip.engine.data_order import order_of, restore_order
from mmseg_siglip.engine.finite_loss_hook import FiniteLossHook
from mmseg_siglip.engine.fitting import compare_weights, revised
from mmseg_siglip.engine.parts_of_config import require_parts, samples_found
from mmseg_siglip.engine.peers import PATIENCE
from mmseg_siglip.engine.processes import start_gloo, watch_peers
from mmseg_siglip.engine.progress import (
    check_averaged,
    check_groups,
    check_progress,
    check_schedulers,
    check_step,
    check_whole,
    history_of,
    mark_step,
    parts_of,
    require_dict,
)
from mmseg_siglip.engine.rates import ends_apart, kept_rates, rules_of_nothing
from mmseg_siglip.engine.screen import quieten
from mmseg_siglip.engine.training_words import check_scored_words, check_training_words
from mmseg_siglip.engine.whole_evaluation import require_end, require_whole
from mmseg_siglip.engine.workers import guarded
from mmseg_siglip.io.image_names import ImageNames
from mmseg_siglip.models.adapters.converters import advice
from mmseg_siglip.models.compiled import compile_parts
from mmseg_siglip.models.learnt_with import learnt_otherwise, learnt_with, require_learnt_with
from mmseg_siglip.registry import RUNNERS
from mmseg_siglip.weights.checkpoint import CHECKPOINT_NAMES, newest_checkpoint, to_plain


def pack_history(hub: dict[str, Any]) -> None:
    """Replace, in place, the histories in a message hub's state by tensors."""
    scalars = hub.get('log_scalars', {})
    for name, buffer in scalars.items():
        if isinstance(buffer, HistoryBuffer):
            values, counts = (torch.as_tensor(part) for part in buffer.data)
            scalars[name] = dict(values=values, counts=counts, max_length=buffer.max_length)


def unpack_history(hub: Any) -> None:
    """The inverse of :func:`pack_history`, of what may come from anyone.

    Raises:
        ValueError: See `history_of`.
    """
    scalars = hub.get('log_scalars') if isinstance(hub, dict) else None
    if isinstance(scalars, dict):
        scalars.update({name: history_of(packed, name) for name, packed in scalars.items()})


def unwrapped(model: nn.Module) -> nn.Module:
    """The model inside of what wraps it for several processes or several views."""
    model = model.module if is_model_wrapper(model) else model
    return model.module if isinstance(model, BaseTTAModel) else model


def with_image_names(loop: BaseLoop) -> BaseLoop:
    """`loop`, whose metrics know the images of its data set by which they name what they save."""
    for metric in loop.evaluator.metrics if hasattr(loop, 'evaluator') else ():
        if hasattr(metric, 'image_names'):
            metric.image_names = ImageNames(loop.dataloader.dataset)
    return loop


@RUNNERS.register_module()
class Runner(BaseRunner):
    """MMEngine's Runner; what differs is what it does with checkpoints and on CPUs.

    Checkpoints hold tensors and plain values and are written atomically. Resuming without a file
    name takes the newest whole file of the run's own folder (see `newest_checkpoint`);
    ``resume='auto'`` begins with `load_from` where there is none. What a checkpoint says of the
    training is checked before it is used (see `check_progress`). A test or validation refuses
    weights that leave a part of the model as it was initialised. A training whose loss is not
    finite stops (see `FiniteLossHook`). The screen shows less than the log file (see `quieten`).
    Without a GPU, processes talk over gloo.

    Refused, where MMEngine's goes on: a checkpoint without its optimizer, or beyond the end of the
    training, to resume from; weights none of which fit; storage that is not a local disk.
    """

    _testing = False
    _run = _resumed = ''
    _training: BaseLoop | None = None

    @classmethod
    def from_cfg(cls, cfg: dict | Config) -> Runner:
        require_parts(cfg)
        return super().from_cfg(cfg)

    @staticmethod
    def build_dataloader(dataloader: DataLoader | dict, *args, **kwargs) -> DataLoader:
        """As MMEngine's, through page-locked memory where that speeds up the way to a GPU.

        Its workers end with this process.
        """
        if isinstance(dataloader, dict):
            dataloader = {'pin_memory': torch.cuda.is_available(), **dataloader}
        with samples_found(dataloader):
            return guarded(BaseRunner.build_dataloader(dataloader, *args, **kwargs))

    def build_logger(self, *args, **kwargs) -> MMLogger:
        """MMEngine's; on the screen, without what is only worth a file, and from the config's
        ``screen_level`` on."""
        logger = super().build_logger(*args, **kwargs)
        quieten(logger, self.cfg.get('screen_level'))
        return logger

    def register_default_hooks(self, hooks: dict[str, Hook | dict | None] | None = None) -> None:
        """MMEngine's, and ``finite_loss``, which None leaves out as well."""
        given = {'finite_loss': FiniteLossHook(), **(hooks or {})}
        if given['finite_loss'] is None:
            del given['finite_loss']
        super().register_default_hooks(given)

    def call_hook(self, fn_name: str, **kwargs) -> None:
        super().call_hook(fn_name, **kwargs)
        if fn_name == 'before_save_checkpoint':
            checkpoint = kwargs['checkpoint']
            pack_history(checkpoint['message_hub'])
            self._run = self._run or secrets.token_hex(8)
            checkpoint['meta'].update(
                run=self._run, saved=time.time(), learnt_with=learnt_with(unwrapped(self.model))
            )
            if self._training is not None:
                checkpoint['meta']['order'] = order_of(self._training)
            for sentence in mark_step(checkpoint['meta'], self.optim_wrapper):
                self.logger.warning(sentence)
            checkpoint.update(to_plain(checkpoint))

    def save_checkpoint(
        self, out_dir: str, filename: str, file_client_args: dict | None = None, *args, **kwargs
    ) -> None:
        """MMEngine's, written atomically.

        Raises:
            ValueError: It is to go elsewhere than on a local disk.
        """
        require_local(out_dir, file_client_args, kwargs.get('backend_args'))
        kwargs['backend_args'] = dict(backend='atomic')
        super().save_checkpoint(out_dir, filename, None, *args, **kwargs)

    def load_checkpoint(
        self,
        filename: str,
        map_location: str | Callable = 'cpu',
        strict: bool = False,
        revise_keys: Sequence[tuple[str, str]] | None = None,
    ) -> dict[str, Any]:
        """MMEngine's, of which the prefix ``module.`` goes only where no name fits with it.

        Raises:
            ValueError: The weights do not fit the model, or no training can go on from the file.
        """
        checkpoint = CheckpointLoader.load_checkpoint(filename, map_location)
        weights, bare = checkpoint.get('state_dict', checkpoint), unwrapped(self.model)
        if not isinstance(weights, Mapping) or not all(isinstance(name, str) for name in weights):
            raise ValueError(f'{filename}: expected a state_dict of names and tensors')
        try:
            unpack_history(checkpoint.get('message_hub'))
            self._check_progress(checkpoint)
        except ValueError as error:
            raise ValueError(f'{filename}: {error}') from error
        self.call_hook('after_load_checkpoint', checkpoint=checkpoint)
        if revise_keys is None:
            fits = bare.state_dict().keys() & weights.keys()
            revise_keys = [] if fits else [(r'^module\.', '')]
        weights = revised(weights, revise_keys)
        missing, reshaped, fitting = compare_weights(bare, weights)
        wrong = missing + reshaped
        if wrong and (self._testing or not fitting):
            shown = ', '.join(wrong[:3]) + (', ...' if len(wrong) > 3 else '')
            raise ValueError(
                f'{filename} does not fit {type(bare).__name__}: {len(missing)} of its tensors '
                f'are missing and {len(reshaped)} have another shape ({shown}){advice(checkpoint)}.'
            )
        if self._testing or self._resume:
            require_learnt_with(bare, checkpoint, filename)
        elif differing := learnt_otherwise(bare, checkpoint):
            self.logger.warning(
                f'The weights of {filename} were trained with {differing} in the config.'
            )
        model = self.model.module if is_model_wrapper(self.model) else self.model
        load_state_dict(model, weights, strict, self.logger)
        self._has_loaded = True
        self.logger.info(f'Load checkpoint from {filename}')
        return checkpoint

    def resume(
        self,
        filename: str,
        resume_optimizer: bool = True,
        resume_param_scheduler: bool = True,
        map_location: str | Callable = 'default',
    ) -> None:
        """MMEngine's.

        Raises:
            ValueError: See `check_progress`.
        """

        def check(checkpoint: dict[str, Any]) -> None:
            check_progress(checkpoint, self.train_loop)
            count = (self.cfg.get('optim_wrapper') or {}).get('accumulative_counts', 1)
            check_step(checkpoint, self.train_loop, count)
            check_whole(checkpoint, ('optimizer', 'param_schedulers'))
            check_averaged(checkpoint, self.hooks)
            self._resumed = parts_of(checkpoint)
            if resume_optimizer:
                require_dict(checkpoint, 'optimizer')
                self.optim_wrapper = self.build_optim_wrapper(self.optim_wrapper)
                check_groups(checkpoint['optimizer'], self.optim_wrapper.state_dict())
            if resume_param_scheduler and self.param_schedulers is not None:
                self.param_schedulers = self.build_param_scheduler(self.param_schedulers)
                check_schedulers(checkpoint.get('param_schedulers'), self.param_schedulers)
            if resume_optimizer and resume_param_scheduler:
                kept = kept_rates(checkpoint, self.optim_wrapper, self.param_schedulers)
                if kept:
                    self.logger.warning(f'The checkpoint goes before the config: {kept}.')
            for sentence in restore_order(self.train_loop, checkpoint['meta'].get('order')):
                self.logger.warning(sentence)
            self._run = str(checkpoint['meta'].get('run', ''))

        self._check_progress = check
        try:
            super().resume(filename, resume_optimizer, resume_param_scheduler, map_location)
        finally:
            del self._check_progress
        self.logger.info(f'Resumed from {filename}: {self._resumed}')

    def _check_progress(self, checkpoint: dict[str, Any]) -> None:
        """Nothing, unless a training is resumed."""

    def load_or_resume(self) -> None:
        """MMEngine's; a test or validation takes weights alone."""
        auto = self._resume == 'auto' or (self._resume and self._load_from is None)
        if auto and not self._has_loaded:
            path = self._newest()
            if path is not None:
                self.logger.info(f'Resuming from {path}, the newest whole checkpoint.')
                self._load_from = path
            else:
                self.logger.warning(f'There is nothing to resume in {self.work_dir}: starting.')
                self._resume = False
        self._resume = self._resume and not self._testing
        super().load_or_resume()
        if not self._testing:
            for sentence in ends_apart(self.param_schedulers, self.train_loop):
                self.logger.warning(sentence)

    def _newest(self) -> str | None:
        """The file to resume from, as the main process finds it."""
        found: list[str | None] = [None]
        if is_main_process():
            path, damaged = newest_checkpoint(*self._own_checkpoints())
            found = [str(path) if path else None]
            for file in damaged:
                self.logger.warning(f'{file} is damaged and passed over.')
        broadcast_object_list(found)
        return found[0]

    def _own_checkpoints(self) -> tuple[Path, Sequence[str]]:
        """The folder of the run's checkpoints and what they are called."""
        for hook in self.hooks:
            if isinstance(hook, BaseCheckpointHook):
                return checkpoint_folder(hook, self), [hook.filename_tmpl]
        return Path(self.work_dir), CHECKPOINT_NAMES

    def train(self) -> nn.Module:
        """MMEngine's; one that starts anew where another run's checkpoints lie says so."""
        self._testing = False
        folder, names = self._own_checkpoints()
        if not self._resume and is_main_process():
            path, _ = newest_checkpoint(folder, names)
            if path is not None:
                self.logger.warning(
                    f'{folder} holds {path.name} of another run: this one starts anew beside it, '
                    'and replaces files of the same name; --resume would go on from there.'
                )
        return super().train()

    def val(self) -> dict:
        self._testing = True
        return super().val()

    def test(self) -> dict:
        self._testing = True
        return super().test()

    def setup_env(self, env_cfg: dict) -> None:
        """MMEngine's; ``patience`` is that of `Peers`."""
        patience = env_cfg.get('patience', PATIENCE)
        if self.distributed and not torch_dist.is_initialized() and not torch.cuda.is_available():
            seconds = env_cfg.get('dist_cfg', {}).get('timeout', 1800)
            start_gloo(self.launcher, timedelta(seconds=seconds), patience)
        super().setup_env(env_cfg)
        if 'MASTER_PORT' in os.environ:
            watch_peers(*get_dist_info(), patience)

    def build_train_loop(self, loop: BaseLoop | dict) -> BaseLoop:
        found = require_end(super().build_train_loop(loop))
        check_training_words(unwrapped(self.model), found.dataloader.dataset)
        self._training = found
        return found

    def build_optim_wrapper(
        self, optim_wrapper: Optimizer | OptimWrapper | dict
    ) -> OptimWrapper | OptimWrapperDict:
        if isinstance(optim_wrapper, Mapping):
            for key in rules_of_nothing(optim_wrapper, self.model):
                self.logger.warning(
                    f'optim_wrapper.paramwise_cfg.custom_keys: no parameter is named like {key!r}, '
                    'so this rule is for nothing.'
                )
        return super().build_optim_wrapper(optim_wrapper)

    def _maybe_compile(self, target: str) -> None:
        """Compile what of the model is `compilable`; of a model without such parts,
        MMEngine's: all of a step, with logging, optimiser and exchange between processes."""
        parts = compile_parts(unwrapped(self.model), self.cfg.get('compile'), 'training')
        if parts is None:
            super()._maybe_compile(target)
        elif parts:
            self.logger.info(
                f'torch.compile: {", ".join(parts)}; the first iterations, and those with images '
                'of a new size, take minutes.'
            )

    def build_val_loop(self, loop: BaseLoop | dict) -> BaseLoop:
        found = require_whole(super().build_val_loop(loop), 'val_dataloader')
        check_scored_words(unwrapped(self.model), found)
        return with_image_names(found)

    def build_test_loop(self, loop: BaseLoop | dict) -> BaseLoop:
        found = super().build_test_loop(loop)
        return with_image_names(require_whole(found, 'test_dataloader'))

    def wrap_model(self, model_wrapper_cfg: dict | None, model: nn.Module) -> nn.Module:
        """As MMEngine's, but on CPUs without device numbers, and not where nothing is trained."""
        kind = (model_wrapper_cfg or {}).get('type', '')
        if 'FullySharded' in str(kind):
            raise ValueError(
                f'model_wrapper_cfg: expected none, or MMDistributedDataParallel, found {kind}: '
                "its shards are not what this Runner's checkpoints hold"
            )
        if not self.distributed or is_model_wrapper(model):
            return super().wrap_model(model_wrapper_cfg, model)
        if not any(parameter.requires_grad for parameter in model.parameters()):
            return model.to(get_device())
        if torch.cuda.is_available() or model_wrapper_cfg is not None:
            return super().wrap_model(model_wrapper_cfg, model)
        return MMDistributedDataParallel(
            module=model,
            broadcast_buffers=False,
            find_unused_parameters=self.cfg.get('find_unused_parameters', False),
        )

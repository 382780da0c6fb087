"""MMEngine's Runner with plain checkpoints, a sure resume, and distribution over CPUs."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as torch_dist
from mmengine.device import get_device
from mmengine.dist import broadcast_object_list
from mmengine.logging import HistoryBuffer
from mmengine.model import BaseTTAModel, MMDistributedDataParallel, is_model_wrapper
from mmengine.runner import BaseLoop
from mmengine.runner import Runner as BaseRunner
from torch import Tensor, nn
from torch.utils.data import DataLoader

from mmseg_siglip.engine.processes import start_gloo
from mmseg_siglip.engine.workers import guarded
from mmseg_siglip.io.image_names import ImageNames
from mmseg_siglip.registry import RUNNERS
from mmseg_siglip.weights.checkpoint import newest_checkpoint, to_plain


def pack_history(hub: dict[str, Any]) -> None:
    """Replace, in place, the histories in a message hub's state by tensors."""
    scalars = hub.get('log_scalars', {})
    for name, buffer in scalars.items():
        if isinstance(buffer, HistoryBuffer):
            values, counts = (torch.as_tensor(part) for part in buffer.data)
            scalars[name] = dict(values=values, counts=counts, max_length=buffer.max_length)


def unpack_history(hub: dict[str, Any]) -> None:
    """The inverse of :func:`pack_history`."""
    scalars = hub.get('log_scalars', {})
    for name, packed in scalars.items():
        if isinstance(packed, dict):
            values, counts = packed['values'].numpy(), packed['counts'].numpy()
            scalars[name] = HistoryBuffer(values, counts, packed['max_length'])


def compare_weights(
    model: nn.Module, state_dict: dict[str, Tensor]
) -> tuple[list[str], list[str], int]:
    """Missing names, names with another shape, and the number of tensors that fit."""
    found = {re.sub(r'^module\.', '', key): value for key, value in state_dict.items()}
    wanted = model.state_dict()
    missing = [key for key in wanted if key not in found]
    missing = [key for key in missing if not key.endswith('num_batches_tracked')]
    shared = [key for key in wanted if key in found]
    reshaped = [key for key in shared if wanted[key].shape != found[key].shape]
    return missing, reshaped, len(shared) - len(reshaped)


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
    name takes the newest whole file of the work folder. A test refuses weights that leave a part of
    the model as it was initialised. Without a GPU, processes talk over gloo.
    """

    _testing = False

    @staticmethod
    def build_dataloader(dataloader: DataLoader | dict, *args, **kwargs) -> DataLoader:
        """As MMEngine's, through page-locked memory where that speeds up the way to a GPU.

        Its workers end with this process.
        """
        if isinstance(dataloader, dict):
            dataloader = {'pin_memory': torch.cuda.is_available(), **dataloader}
        return guarded(BaseRunner.build_dataloader(dataloader, *args, **kwargs))

    def call_hook(self, fn_name: str, **kwargs) -> None:
        if fn_name == 'after_load_checkpoint':
            unpack_history(kwargs['checkpoint'].get('message_hub', {}))
        super().call_hook(fn_name, **kwargs)
        if fn_name == 'before_save_checkpoint':
            checkpoint = kwargs['checkpoint']
            pack_history(checkpoint['message_hub'])
            checkpoint.update(to_plain(checkpoint))

    def save_checkpoint(self, out_dir: str, filename: str, *args, **kwargs) -> None:
        kwargs['backend_args'] = dict(backend='atomic')
        super().save_checkpoint(out_dir, filename, *args, **kwargs)

    def load_checkpoint(self, filename: str, *args, **kwargs) -> dict[str, Any]:
        checkpoint = super().load_checkpoint(filename, *args, **kwargs)
        model = self.model.module if is_model_wrapper(self.model) else self.model
        model = model.module if isinstance(model, BaseTTAModel) else model
        missing, reshaped, fitting = compare_weights(
            model, checkpoint.get('state_dict', checkpoint)
        )
        wrong = missing + reshaped
        if wrong and (self._testing or not fitting):
            shown = ', '.join(wrong[:3]) + (', ...' if len(wrong) > 3 else '')
            raise ValueError(
                f'{filename} does not fit {type(model).__name__}: {len(missing)} of its tensors '
                f'are missing and {len(reshaped)} have another shape ({shown}).'
            )
        return checkpoint

    def load_or_resume(self) -> None:
        if self._resume and self._load_from is None and not self._has_loaded:
            path, damaged = newest_checkpoint(self.work_dir)
            found = [str(path) if path else None]
            broadcast_object_list(found)
            for file in damaged:
                self.logger.warning(f'{file} is damaged and passed over.')
            if found[0] is None:
                self.logger.warning(f'There is nothing to resume in {self.work_dir}: starting.')
                return
            self.logger.info(f'Resuming from {found[0]}, the newest whole checkpoint.')
            self._load_from = found[0]
        super().load_or_resume()

    def test(self) -> dict:
        self._testing = True
        return super().test()

    def setup_env(self, env_cfg: dict) -> None:
        if self.distributed and not torch_dist.is_initialized() and not torch.cuda.is_available():
            seconds = env_cfg.get('dist_cfg', {}).get('timeout', 1800)
            start_gloo(self.launcher, timedelta(seconds=seconds))
        super().setup_env(env_cfg)

    def build_val_loop(self, loop: BaseLoop | dict) -> BaseLoop:
        return with_image_names(super().build_val_loop(loop))

    def build_test_loop(self, loop: BaseLoop | dict) -> BaseLoop:
        return with_image_names(super().build_test_loop(loop))

    def wrap_model(self, model_wrapper_cfg: dict | None, model: nn.Module) -> nn.Module:
        """As MMEngine's, but on CPUs without device numbers, and not where nothing is trained."""
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

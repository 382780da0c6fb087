"""Automatic mixed precision on any device."""

from __future__ import annotations

import torch
from mmengine.device import get_device
from mmengine.optim import AmpOptimWrapper as BaseAmpOptimWrapper
from mmengine.optim import OptimWrapper

from mmseg_siglip.registry import OPTIM_WRAPPERS


@OPTIM_WRAPPERS.register_module()
class AmpOptimWrapper(BaseAmpOptimWrapper):
    """MMEngine's wrapper, which refuses to start on a CPU although its autocast runs there.

    On a CPU the products are in bfloat16, whose range is float32's, so that losses are not scaled.
    """

    def __init__(
        self,
        loss_scale: str | float | dict = 'dynamic',
        dtype: str | torch.dtype | None = None,
        use_fsdp: bool = False,
        **kwargs,
    ) -> None:
        if get_device() != 'cpu':
            super().__init__(loss_scale=loss_scale, dtype=dtype, use_fsdp=use_fsdp, **kwargs)
            return
        if dtype not in (None, 'bfloat16', torch.bfloat16):
            raise ValueError(f'AmpOptimWrapper on a CPU runs in bfloat16, found dtype {dtype}.')
        OptimWrapper.__init__(self, **kwargs)
        self._scale_update_param = None
        self.loss_scaler = torch.amp.GradScaler('cpu', enabled=False)
        self.cast_dtype = torch.bfloat16

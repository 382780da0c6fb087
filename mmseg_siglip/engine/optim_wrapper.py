"""Automatic mixed precision on any device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from mmengine.device import get_device
from mmengine.optim import AmpOptimWrapper as BaseAmpOptimWrapper
from mmengine.optim import OptimWrapper
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from mmseg_siglip.registry import OPTIM_WRAPPERS


@OPTIM_WRAPPERS.register_module()
class AmpOptimWrapper(BaseAmpOptimWrapper):
    """MMEngine's wrapper, which refuses to start on a CPU although its autocast runs there.

    On a CPU the products are in bfloat16, whose range is float32's, so that losses are not scaled,
    and attention is two products and a softmax: the backward pass of PyTorch's fused one takes
    about ten times as long there.
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

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """What the forward pass runs in."""
        with self._attention(), super().optim_context(model):
            yield

    def backward(self, loss: Tensor, **kwargs) -> None:
        """MMEngine's; parts that were not kept are computed again as they were the first time."""
        with self._attention():
            super().backward(loss, **kwargs)

    @contextmanager
    def _attention(self) -> Iterator[None]:
        if get_device() != 'cpu':
            yield
            return
        rounded = torch.backends.cuda.fp16_bf16_reduction_math_sdp_allowed()
        torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp(True)
        try:
            with sdpa_kernel(SDPBackend.MATH):
                yield
        finally:
            torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp(rounded)

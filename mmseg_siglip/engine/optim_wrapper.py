"""Automatic mixed precision on any device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from mmengine.device import get_device
from mmengine.logging import print_log
from mmengine.optim import AmpOptimWrapper as BaseAmpOptimWrapper
from mmengine.optim import OptimWrapper
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from mmseg_siglip.precision import compute_dtype, cpu_kind
from mmseg_siglip.registry import OPTIM_WRAPPERS


@OPTIM_WRAPPERS.register_module()
class AmpOptimWrapper(BaseAmpOptimWrapper):
    """MMEngine's wrapper, which refuses to start on a CPU although its autocast runs there.

    On a CPU the products are in bfloat16 if it multiplies that, else in float32, which is faster
    there, as `OptimWrapper` trains; the log says so. bfloat16's range is float32's, so that losses
    are not scaled, and attention in it is two products and a softmax: the backward pass of
    PyTorch's fused one takes about ten times as long.

    Args:
        loss_scale, dtype, use_fsdp: MMEngine's; `dtype` on a CPU is bfloat16 or None.
        force: bfloat16 even on a CPU where it is slower, to study its rounding.

    Raises:
        TypeError: `loss_scale` is none of these.
        ValueError: Another format on a CPU.
    """

    def __init__(
        self,
        loss_scale: str | float | dict = 'dynamic',
        dtype: str | torch.dtype | None = None,
        use_fsdp: bool = False,
        *,
        force: bool = False,
        **kwargs,
    ) -> None:
        if get_device() != 'cpu':
            super().__init__(loss_scale=loss_scale, dtype=dtype, use_fsdp=use_fsdp, **kwargs)
            return
        if dtype not in (None, 'bfloat16', torch.bfloat16):
            raise ValueError(f'AmpOptimWrapper on a CPU: expected dtype bfloat16, found {dtype}.')
        if loss_scale != 'dynamic' and not isinstance(loss_scale, (float, dict)):
            raise TypeError(
                'loss_scale must be of type float, dict, or "dynamic", found '
                f'{type(loss_scale).__name__} {loss_scale!r}'
            )
        OptimWrapper.__init__(self, **kwargs)
        self._scale_update_param = None
        self.loss_scaler = torch.amp.GradScaler('cpu', enabled=False)
        self.cast_dtype = compute_dtype('bf16' if force else 'auto', torch.device('cpu'))
        if self.cast_dtype == torch.float32:
            said = (
                f'asked for bfloat16, runs in float32: this CPU ({cpu_kind()}) has no units for '
                'bfloat16, which is slower on it (optim_wrapper.force=True insists)'
            )
        elif force:
            said = 'runs in bfloat16, because optim_wrapper.force=True insists'
        else:
            said = f'runs in bfloat16, for which this CPU ({cpu_kind()}) has units'
        print_log(f'AmpOptimWrapper: {said}.', logger='current')

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """What the forward pass runs in."""
        if self.cast_dtype == torch.float32:
            with OptimWrapper.optim_context(self, model):
                yield
        else:
            with self._attention(), super().optim_context(model):
                yield

    def backward(self, loss: Tensor, **kwargs) -> None:
        """MMEngine's; parts that were not kept are computed again as they were the first time."""
        with self._attention():
            super().backward(loss, **kwargs)

    def load_state_dict(self, state_dict: dict) -> None:
        """MMEngine's; after a CPU, which scales no loss, a GPU's scale begins anew."""
        if not state_dict.get('loss_scaler'):
            state_dict = {k: v for k, v in state_dict.items() if k != 'loss_scaler'}
        super().load_state_dict(state_dict)

    @contextmanager
    def _attention(self) -> Iterator[None]:
        if get_device() != 'cpu' or self.cast_dtype == torch.float32:
            yield
            return
        rounded = torch.backends.cuda.fp16_bf16_reduction_math_sdp_allowed()
        torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp(True)
        try:
            with sdpa_kernel(SDPBackend.MATH):
                yield
        finally:
            torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp(rounded)

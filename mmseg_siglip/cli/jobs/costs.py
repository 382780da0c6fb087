"""What a test costs besides time: memory, and arithmetic beside one pass of the encoder."""

from __future__ import annotations

import ctypes
import gc
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from mmengine.dataset import pseudo_collate
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import nn
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from mmseg_siglip.models.regions import CachedRegions

STATUS = Path('/proc/self/statm')
PERIOD = 0.005
MEGABYTE = 2**20
PARTS = dict(score_steps=nn.ModuleList, postprocessors=nn.ModuleList, label_steps=nn.ModuleList)


class MemoryWatch(Hook):
    """The most memory that a test takes above what is held when it begins, weights included.

    On a GPU it is what the allocator handed out; else the process's resident memory, looked at all
    the time by a thread, and known on Linux only.

    Attributes:
        peak: MB, or None.
    """

    peak: float | None = None

    def before_test_epoch(self, runner: Runner) -> None:
        _ = getattr(runner.model, 'text', None)  # words are embedded once for a whole data set
        gc.collect()
        self._device = next(runner.model.parameters()).device
        if self._device.type == 'cuda':
            torch.cuda.reset_peak_memory_stats(self._device)
            self._before = torch.cuda.memory_allocated(self._device)
        elif STATUS.exists():
            give_back()
            self._before = self._most = resident()
            self._done = threading.Event()
            self._thread = threading.Thread(target=self._look, daemon=True)
            self._thread.start()

    def after_test_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        if self._device.type == 'cuda':
            self._most = torch.cuda.max_memory_allocated(self._device)
        elif STATUS.exists():
            self._done.set()
            self._thread.join()
        else:
            return
        self.peak = (self._most - self._before) / MEGABYTE

    def _look(self) -> None:
        while not self._done.wait(PERIOD):
            self._most = max(self._most, resident())


def resident() -> int:
    """The process's memory in use, bytes."""
    return int(STATUS.read_text().split()[1]) * os.sysconf('SC_PAGE_SIZE')


def give_back() -> None:
    """Return to the system what was freed and is kept for later, where the C library can."""
    trim = getattr(ctypes.CDLL(None), 'malloc_trim', None)
    if trim is not None:
        trim(0)


def without_caches(model: nn.Module) -> None:
    """Let every row pay for its regions, also where one before it has looked for the same."""
    for module in model.modules():
        if isinstance(module, CachedRegions):
            module.off = True


def flops_ratio(runner: Runner) -> float | None:
    """Floating-point operations for the first image, as a multiple of those of the encoder alone.

    The encoder alone is `vanilla` on the windows of the settings; also beside a method that sees
    images in one piece whatever the settings say, so that all rows of a data set have one base.
    Second models and postprocessors count where they multiply matrices or convolve, and so do
    regions: no cache has them, see `without_caches`.

    Returns:
        About 1 and more, less where a method leaves out parts of the last block; None where the
        model stands on no encoder.
    """
    model = runner.model
    if not hasattr(model, 'method'):
        return None
    model.eval()
    _ = model.text
    sample = runner.test_dataloader.dataset[0]
    with encoder_alone(model):  # which makes what is kept for a size of images
        model.test_step(pseudo_collate([sample]))
    own = count_flops(model, sample)
    with encoder_alone(model):
        return own / count_flops(model, sample)


def count_flops(model: nn.Module, sample: dict) -> int:
    """Floating-point operations for one sample of a data set."""
    with FlopCounterMode(display=False, custom_mapping=ON_CPU) as counter:
        model.test_step(pseudo_collate([sample]))
    return counter.get_total_flops()


@contextmanager
def encoder_alone(model: nn.Module) -> Iterator[None]:
    """A segmentor without anything but its encoder, while open."""
    kept = {name: getattr(model, name) for name in ('method', 'upsampler', *PARTS)}
    try:
        model.method, model.upsampler = 'vanilla', None
        for name, empty in PARTS.items():
            setattr(model, name, empty())
        yield
    finally:
        for name, part in kept.items():
            setattr(model, name, part)


def attention_flops(query, key, value, *args, out_shape=None, **options) -> int:
    """Of the attention that PyTorch fuses on a CPU, by shapes."""
    return sdpa_flop_count(query, key, value)


ON_CPU = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: attention_flops}


def is_supervised(model: nn.Module) -> bool:
    """Whether a second model behind it learned from labels of segments.

    Guides and what proposes regions say so by an attribute ``supervised``.
    """
    return any(getattr(module, 'supervised', False) for module in model.modules())
